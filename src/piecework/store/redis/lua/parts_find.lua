#!lua flags=no-writes
-- with: parts
-- Distributed jobs, in the order of their arrival or the reverse: {now, {as each is kept …}, behind which place to go on, or
-- false where there are no more}. Told {place behind which it begins or false, limit, newest}.
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
  local rows = Parts.rows(Parts.job, tokens)
  local over = #rows == #found and #found < limit
  return { NOW, rows, not over and sub(found[#rows], 2, 15) }
end)
