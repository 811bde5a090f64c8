#!lua flags=no-writes
-- What was told to an operation, or done to it by hand, a page of one list of `trail`: d deeds, u signals that nobody took, t those
-- that were taken. Told {id, list, behind which line or false}; answers {{{number of its arrival, list, name, body} …}, behind which
-- line to go on, or false at the end}.

local SLICE, LOOKED = 25, 500 -- lines of any size that are read at once, and in all
local WEIGHT = 1048576 -- bytes of lines that one script answers with, and a slice more

-- A line as it is told, and what stands in front of its body.
local function line(list, member)
  local at, name = 15, false
  if list == 'u' then
    local ends = member:find('\0', 16, true)
    name, at = sub(member, 16, ends - 1), ends
  end
  return { sub(member, at + 1, at + 14), list, name, unpack_all(sub(member, at + 15)) }, sub(member, 1, at + 14)
end

return verb(function()
  local place, list, after = Rows.place_of(ASKED.id), ASKED.list, ASKED.after or nil
  local found, weight = {}, 0
  while place and #found < LOOKED and weight < WEIGHT do
    local members = beginning(K.trail, list .. place, SLICE, after and after .. '\255')
    for _, member in ipairs(members) do
      found[#found + 1], after = line(list, member)
      weight = weight + #member
    end
    if #members < SLICE then return { found, false } end
  end
  return { found, place and after or false }
end)
