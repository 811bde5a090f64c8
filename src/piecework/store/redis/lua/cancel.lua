#!lua flags=allow-oom
-- with: search deeds
-- Cancels some of the jobs that match: {how many were touched, where the search stopped, whether there are no more,
-- which batches have something below them that is still to be cancelled}.

local BITE_OF = 100 -- jobs that one script cancels

local function is_undone(job)
  local operation = Rows.operation(job)
  return operation ~= nil and operation[O.ENDING] and true or false
end

local function is_asked_for(job)
  if FINISHED_STATE[job[STATE]] or job[STOPPING] then return false end
  return not (ASKED.undo and is_undone(job))
end

local function ask_to_undo(job)
  Rows.operation(job)[O.ENDING] = { ASKED.reason, ASKED.ending }
  Rows.touch_operation(job)
  if job[STATE] == 'r' then
    job[TO_UNDO] = true
    Fan.ask_to_stop(job, ASKED.reason)
  else
    Walk.undo(job)
  end
end

local function note(job)
  job[STOPPED_BY], job[STOPPED_AT] = ASKED.by, NOW
  Rows.touch(job)
  Deeds.note(job, ASKED.undo and 'undoing' or 'cancelled', ASKED.by, ASKED.reason)
end

local function stop(job)
  if FINISHED_STATE[job[STATE]] then return end -- since, with a batch that ended before it
  if ASKED.undo and job[OPERATION] then
    ask_to_undo(job)
  elseif job[STATE] == 'r' then
    Fan.ask_to_stop(job, ASKED.reason)
  else
    Fan.finish(job, 'x', nil, ASKED.reason)
  end
end

return verb(function()
  ASKED.which.states = { 'w', 'a', 'p' } -- with those that run
  local found, at, over = Search.first(ASKED.which, ASKED.after, min(ASKED.limit, BITE_OF), is_asked_for)
  for _, job in ipairs(ASKED.by and found or {}) do note(job) end
  for _, job in ipairs(found) do stop(job) end
  Moves.keep_last_place()
  Rows.flush()
  return { #found, at or false, over, Fan.unfinished }
end)
