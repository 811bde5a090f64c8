#!lua flags=no-writes
-- What is kept of the operations among these jobs: an array for each.

return verb(function()
  Rows.look_up(ASKED.ids)
  local found = {}
  for _, id in ipairs(ASKED.ids) do
    local job = Rows.with_id(id)
    local operation = job and Rows.operation(job)
    if operation then
      local wait, ending = operation[O.WAIT], operation[O.ENDING]
      local globals = call('HGET', K.globals, Rows.place[job])
      found[#found + 1] = {
        id, operation[O.DIGEST], operation[O.KEY] or false, wait or false, operation[O.RECEIVED] or false,
        ending or false, operation[O.FORKED_FROM] or false, operation[O.FORKED_AFTER] or false,
        globals and unpack_all(globals) or {},
      }
    end
  end
  return found
end)
