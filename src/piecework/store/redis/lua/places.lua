#!lua flags=no-writes
-- The places of some ids; false for those that are not stored.

return verb(function()
  local places = {}
  Rows.look_up(ASKED.ids)
  for k, id in ipairs(ASKED.ids) do places[k] = Rows.place_of(id) or false end
  return places
end)
