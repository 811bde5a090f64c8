#!lua flags=no-writes
-- with: parts
-- A page of parts: {{name, as it is kept} …}. Told {place, letter of the state, number behind which it begins, limit}.
return verb(function()
  local place, letter, after, limit = ASKED[1], ASKED[2], ASKED[3], ASKED[4]
  local front = letter .. place
  local from = '[' .. front .. format('%08x', after + 1)
  local found = call('ZRANGEBYLEX', Parts.line, from, '(' .. front .. '\255', 'LIMIT', 0, limit)
  local names, fields = {}, {}
  for k, member in ipairs(found) do
    names[k] = sub(member, 24)
    fields[k] = place .. '\0' .. names[k]
  end
  local page = {}
  for k, kept in ipairs(values(Parts.part, fields)) do page[k] = { names[k], kept } end
  return page
end)
