#!lua flags=no-writes
-- with: parts
-- Parts in their order: {{{name, as it is kept} …}, whether there are no more}. Told {place, letter of the state, number behind
-- which it begins, limit}.
return verb(function()
  local place, letter, after, limit = ASKED[1], ASKED[2], ASKED[3], ASKED[4]
  local front = letter .. place
  local from = '[' .. front .. format('%08x', after + 1)
  local found = call('ZRANGEBYLEX', Parts.line, from, '(' .. front .. '\255', 'LIMIT', 0, limit)
  local fields, page = {}, {}
  for k, member in ipairs(found) do fields[k] = place .. '\0' .. sub(member, 24) end
  for k, kept in ipairs(Parts.rows(Parts.part, fields)) do page[k] = { sub(found[k], 24), kept } end
  return { page, #page == #found and #found < limit }
end)
