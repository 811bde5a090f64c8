#!lua flags=allow-oom
-- with: parts
-- Deletes up to some rows of what is past its time, and answers how many. Told {limit}.
return verb(function()
  local left = ASKED[1]
  for _, member in ipairs(call('ZRANGEBYSCORE', Parts.over, '-inf', format('%.17g', NOW), 'LIMIT', 0, 20)) do
    local place, token = sub(member, 1, 14), sub(member, 15)
    local parts = beginning(Parts.line, 'a' .. place, left)
    for _, posting in ipairs(parts) do
      local rest = sub(posting, 2)
      call('ZREM', Parts.line, 'a' .. rest, 'o' .. rest, 'd' .. rest, 'f' .. rest)
      call('HDEL', Parts.part, place .. '\0' .. sub(posting, 24))
    end
    left = left - #parts
    if left <= 0 then return ASKED[1] end
    if sub(Parts.head(token), 1, 14) == place then
      call('HDEL', Parts.job, token)
      call('ZREM', Parts.line, 'j' .. place .. token)
    end
    call('ZREM', Parts.over, member)
    left = left - 1
  end
  return ASKED[1] - left
end)
