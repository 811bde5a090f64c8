-- with: deeds revive
-- Moves operations by hand, or edits their globals, each once: {the answers, what is held of what comes back with them}.

local function may_be_moved(job)
  local for_pieces = job[STATE] == 'w' and Fan.is_open(Fan.own(job))
  return job[STATE] ~= 'r' and job[STATE] ~= 'c' and not for_pieces
end

local function is_stale(job, cursor, amendment)
  return not job[OPERATION] or job[CURSOR] ~= cursor
    or (amendment.cursor and not may_be_moved(job))
    or (amendment.resume and not Revive.may_come_back(job))
end

-- Another step is next; what it waited for, and what is below it, concerns it no more.
local function move(job, amendment)
  Walk.leave_batch(job)
  Walk.stop_listening(job)
  local fields = {
    [ATTEMPT] = 0, [CRASHES] = false, [EXPIRES] = false, [QUEUE] = amendment.queue or job[QUEUE],
    [PRIORITY] = amendment.priority or job[PRIORITY],
  }
  local state = job[STATE]
  if state == 'a' or state == 'w' then
    state, fields[RUN_AT] = 'a', NOW + (amendment.delay or 0)
    Rows.set_error(job, nil)
    job[REASON] = nil
  end
  job[CURSOR], job[PROGRESS] = amendment.cursor, nil
  Moves.to(job, state, fields)
end

local function go_on(job, amendment)
  Revive.job(job)
  if amendment.cursor and amendment.delay then Moves.to(job, 'a', { [RUN_AT] = NOW + amendment.delay }) end
end

local function amended(job, amendment)
  if amendment.globals then
    Walk.change_globals(job, amendment.globals)
    Rows.operation(job)[O.EDITED] = job[RUN]
    Rows.touch_operation(job)
  end
  Deeds.keep(job, amendment)
  if amendment.cursor then move(job, amendment) end
  if amendment.onward then
    Rows.operation(job)[O.ENDING] = nil
    Rows.touch_operation(job)
  end
  if amendment.resume and (job[STATE] == 'f' or job[STATE] == 'x' or job[STATE] == 'p') then go_on(job, amendment) end
end

local function answer(deed)
  local job, amendment = Rows.with_id(deed.id), deed.amendment
  if not job then return 'stale' end
  if Deeds.is_known(job, amendment.id) then return 'already' end
  if is_stale(job, deed.cursor, amendment) then return 'stale' end
  amended(job, amendment)
  return 'ok'
end

return verb(function()
  local ids, answers = {}, {}
  for k, deed in ipairs(ASKED) do ids[k] = deed.id end
  Rows.look_up(ids)
  for k, deed in ipairs(ASKED) do answers[k] = answer(deed) end
  Moves.keep_last_place()
  Rows.flush()
  return { answers, Revive.held }
end)
