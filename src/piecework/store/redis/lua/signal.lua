-- Keeps a signal for an operation, and gives it to one that waits for it: whether there is one that may still take it.

return verb(function()
  local job, signal = Rows.with_id(ASKED.id), ASKED.signal
  if not job or not job[OPERATION] or job[STATE] == 'c' then return false end
  local place = Rows.place[job]
  if call('ZSCORE', K.trail, 'i' .. place .. signal.id) then return true end
  put(Rows.sets.trail, 'i' .. place .. signal.id)
  local body = pack({ signal.id, signal.payload, signal.by or false, NOW })
  put(Rows.sets.trail, 'u' .. place .. signal.name .. '\0' .. Moves.next_place() .. body)
  Walk.hear(job)
  Moves.keep_last_place()
  Rows.flush()
  return true
end)
