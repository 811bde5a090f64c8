#!lua flags=no-writes
-- with: parts
-- A page of distributed jobs, in the order of their arrival or the reverse: {now, {as each is kept …}}. Told {place behind which
-- it begins or false, limit, newest}.
return verb(function()
  local place, limit, newest = ASKED[1], ASKED[2], ASKED[3]
  local found
  if newest then
    found = call('ZREVRANGEBYLEX', Parts.line, place and '(j' .. place or '(j\255', '[j', 'LIMIT', 0, limit)
  else
    found = call('ZRANGEBYLEX', Parts.line, place and '(j' .. place .. '\255' or '[j', '(j\255', 'LIMIT', 0, limit)
  end
  local tokens = {}
  for k, member in ipairs(found) do tokens[k] = sub(member, 16) end
  return { NOW, values(Parts.job, tokens) }
end)
