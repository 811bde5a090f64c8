#!lua flags=no-writes
-- What was told to an operation, or done to it by hand, oldest first: {{number of its arrival, body}, …}. `lists` names the
-- lists of `trail`: d deeds, u signals that nobody took, t those that were taken.

return verb(function()
  local place = Rows.place_of(ASKED.id)
  local found = {}
  for list in ASKED.lists:gmatch('.') do
    for _, member in ipairs(place and beginning(K.trail, list .. place) or {}) do
      local rest, name = sub(member, 16), false
      if list == 'u' then
        local ends = rest:find('\0', 1, true)
        name, rest = sub(rest, 1, ends - 1), sub(rest, ends + 1)
      end
      found[#found + 1] = { sub(rest, 1, 14), list, name, unpack_all(sub(rest, 15)) }
    end
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  return found
end)
