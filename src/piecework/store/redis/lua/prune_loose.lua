#!lua flags=allow-oom
-- with: erase
-- Deletes batches that nothing follows once all their pieces are gone, a page of those that ended before a moment: where it
-- stopped, or false at the end.

local LOOKED = 200

return verb(function()
  local from = ASKED.after and '(' .. ASKED.after or '[L'
  local members = call('ZRANGEBYLEX', K.index, from, '(L' .. moment(ASKED.before), 'LIMIT', 0, LOOKED)
  for _, member in ipairs(members) do
    local id = sub(member, 16)
    if not beginning(K.index, 'b' .. id .. '\0', 1)[1] then Erase.batch(id) end
  end
  Erase.flush()
  return #members == LOOKED and members[LOOKED] or false
end)
