#!lua flags=allow-oom
-- with: away
-- Notes that a session is being ended, where there are several shards. Told {id, beat or false}; answers whether it is there with
-- that beat.
return verb(function()
  local raw = call('HGET', K.session, ASKED[1])
  if not raw or (ASKED[2] and unpack_all(raw)[1] ~= ASKED[2]) then return false end
  Away.mark(ASKED[1], raw)
  return true
end)
