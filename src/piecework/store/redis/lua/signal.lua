-- Keeps signals for operations, one for each, and gives them to those that wait for them: of each whether there is one that
-- may still take it.

local function kept(signal)
  local job = Rows.with_id(signal.job)
  if not job or not job[OPERATION] or job[STATE] == 'c' then return false end
  local place = Rows.place[job]
  if call('ZSCORE', K.trail, 'i' .. place .. signal.id) then return true end
  put(Rows.sets.trail, 'i' .. place .. signal.id)
  local body = pack({ signal.id, signal.payload, signal.by or false, NOW })
  put(Rows.sets.trail, 'u' .. place .. signal.name .. '\0' .. Moves.next_place() .. body)
  Walk.hear(job)
  return true
end

return verb(function()
  local ids, answers = {}, {}
  for k, signal in ipairs(ASKED) do ids[k] = signal.job end
  Rows.look_up(ids)
  for k, signal in ipairs(ASKED) do answers[k] = kept(signal) end
  Moves.keep_last_place()
  Rows.flush()
  return answers
end)
