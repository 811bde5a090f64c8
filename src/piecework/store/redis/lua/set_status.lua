#!lua flags=allow-oom
-- Keeps what a run says of its job: whether it owns that still. Told {id, run, text}.
return verb(function()
  local job = Rows.with_id(ASKED[1])
  if not job or job[STATE] ~= 'r' or job[RUN] ~= ASKED[2] then return false end
  local before = Moves.said_posting(job)
  Rows.set_status(job, ASKED[3])
  job[STATUS_AT] = NOW
  local after = Moves.said_posting(job)
  if before then take_out(Rows.sets.index, before) end
  if after then put(Rows.sets.index, after) end
  Rows.touch(job)
  Rows.flush()
  return true
end)
