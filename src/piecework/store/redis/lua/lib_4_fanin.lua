-- What the end of a job means for the batch that it waits for, and for the one that it is a piece of.

-- How many batches this script may still close, and pieces cancel, below those that end; a fetch meets the others, or a sweep.
-- `unfinished`: batches that ended, and have something below them that no fetch would meet.
local Fan = { left = STOP_BITE, unfinished = {} }
local ENDED = 'its batch had ended' -- why those are cancelled that had not started
local ENDED_RUNNING = 'its batch has ended' -- why those are asked to stop that run
local LOOK = 1000 -- running jobs that one script looks at

-- The batch that a job waits for, or will, or nil.
function Fan.own(job)
  return Rows.batch(job[BELOW])
end

function Fan.is_open(batch)
  return batch ~= nil and batch[B.STATE] == 'open'
end

function Fan.is_dead(batch)
  return batch ~= nil and (batch[B.STATE] == 'failed' or batch[B.STATE] == 'stopped')
end

-- Whether a job is a piece of a batch that failed or was stopped.
function Fan.is_doomed(job)
  return job[BATCH] and Fan.is_dead(Rows.batch(job[BATCH]))
end

-- Opens a batch that is not there. `new`: {id, then, on_failure, then_queue, then_priority, always}.
function Fan.open(new)
  local batch = {
    [B.STATE] = 'open', [B.TOTAL] = 0, [B.OPEN] = 0, [B.COMPLETED] = 0, [B.FAILED] = 0, [B.CANCELLED] = 0,
    [B.THEN] = new[2], [B.ON_FAILURE] = new[3], [B.CREATED] = NOW,
    [B.THEN_QUEUE] = new[4], [B.THEN_PRIORITY] = new[5], [B.ALWAYS] = new[6],
  }
  Moves.new_batch(new[1], batch)
end

-- The continuation knows the batch that it waits for.
function Fan.put_below(id)
  local job = Rows.with_id(Rows.batch(id)[B.THEN])
  if job then
    job[BELOW] = id
    Rows.changed[job] = true
    Moves.set_batch(id, { [B.ABOVE] = job[BATCH] })
  end
end

function Fan.seal(id)
  Moves.set_batch(id, { [B.SEALED] = true })
  Fan.look_at(id)
end

-- The one way for a job to end: with its own batch, if that is open, and in the batch it is a piece of.
function Fan.finish(job, state, error, reason)
  if error then Rows.set_error(job, error) end -- a cancelled job still shows why its last run ended
  job[REASON], job[STOPPING] = reason or nil, nil
  job[FINISHED] = NOW
  Moves.to(job, state, job[CRASHED] and { [CRASHED] = false })
  if job[TO_UNDO] then -- it came to its end before it could be undone
    job[TO_UNDO] = nil
    Rows.operation(job)[O.ENDING] = nil
    Rows.touch_operation(job)
  end
  if Fan.is_open(Fan.own(job)) then Fan.close(job[BELOW], state == 'f' and 'failed' or 'stopped') end
  Fan.count_piece(job)
end

-- A piece has come to its end; its batch may have, too.
function Fan.count_piece(piece)
  local id, batch = piece[BATCH], Rows.batch(piece[BATCH])
  if not Fan.is_open(batch) then return end
  if batch[B.ON_FAILURE] == 'fail_fast' and (piece[STATE] == 'f' or piece[CRASHED]) then
    Fan.fail(id)
  else
    Fan.look_at(id)
  end
end

-- Ends a batch that is sealed and has no open piece left.
function Fan.look_at(id)
  local batch = Rows.batch(id)
  if batch[B.STATE] ~= 'open' or batch[B.SEALED] ~= true or batch[B.OPEN] > 0 then return end
  if batch[B.FAILED] + batch[B.CANCELLED] > 0 and batch[B.ON_FAILURE] ~= 'compose' then
    Fan.fail(id)
  else
    Moves.set_batch(id, { [B.STATE] = 'done', [B.FINISHED] = NOW })
    Fan.release(id)
  end
end

-- What waits for the batch may run.
function Fan.release(id)
  local batch = Rows.batch(id)
  local job = Rows.with_id(batch[B.THEN])
  if not job or job[STATE] ~= 'w' or job[BELOW] ~= id then return end
  Moves.to(job, 'a', {
    [RUN_AT] = NOW, [ATTEMPT] = 0, [CRASHES] = false,
    [QUEUE] = batch[B.THEN_QUEUE] or job[QUEUE], [PRIORITY] = batch[B.THEN_PRIORITY] or job[PRIORITY],
  })
end

-- A batch fails, and with it what was to follow it; a splitter that still runs fails when it answers.
-- What follows an `always` batch looks for itself what became of it.
function Fan.fail(id)
  Fan.close(id, 'failed')
  local batch = Rows.batch(id)
  if batch[B.ALWAYS] then return Fan.release(id) end
  local job = Rows.with_id(batch[B.THEN])
  if not job then return end
  local error = Fan.why_failed(id)
  if job[STATE] == 'r' then
    Fan.ask_to_stop(job, error[2])
  elseif not FINISHED_STATE[job[STATE]] and not job[CRASHED] then
    History.remember(job, 'failed', job[ATTEMPT], error)
    Fan.finish(job, 'f', error)
  end
end

local closing, closed = 0, {} -- how deep in closing we are, and what was closed

-- Pieces that wait or are available, of those at these places, come to nothing.
local function cancel_unstarted(places)
  Rows.load(places)
  for _, place in ipairs(places) do
    local piece = Rows.job(place)
    if piece and (piece[STATE] == 'w' or piece[STATE] == 'a') then Fan.finish(piece, 'x', nil, ENDED) end
  end
end

-- Reads the places at the end of some members.
local function places_in(members)
  local places = {}
  for k, member in ipairs(members) do places[k] = sub(member, -14) end
  return places
end

-- Those that run in batches that were closed are asked to stop: as far as one script may look, a sweep finds the others.
local function stop_running(batches)
  Rows.write('running')
  local places = places_in(call('ZRANGE', K.running, 0, LOOK - 1))
  Rows.load(places)
  for _, place in ipairs(places) do
    local job = Rows.job(place)
    if job and job[STATE] == 'r' and batches[job[BATCH] or ''] then Fan.ask_to_stop(job, ENDED_RUNNING) end
  end
end

-- The batches below one that has ended, and the pieces of it that wait for them: as many as there is room for.
local function close_inner(id)
  Rows.write('index')
  local prefix = 'A' .. id .. '\0'
  for _, member in ipairs(beginning(K.index, prefix, max(Fan.left, 0) + 1)) do
    if Fan.left <= 0 then
      Fan.unfinished[#Fan.unfinished + 1] = id
      return
    end
    Fan.left = Fan.left - 1
    local inner = sub(member, #prefix + 1)
    if Fan.is_open(Rows.batch(inner)) then Fan.close(inner, 'stopped') end
  end
  local waiting = places_in(beginning(K.index, 'c' .. id .. '\0', max(Fan.left, 0) + 1))
  if #waiting > Fan.left then
    waiting[#waiting] = nil
    Fan.unfinished[#Fan.unfinished + 1] = id
  end
  Fan.left = Fan.left - #waiting
  cancel_unstarted(waiting)
end

-- Does something below batches, in whose course some of them end; then asks those to stop that run in these.
local function closing_with(id, body)
  closing = closing + 1
  closed[id] = true
  body()
  closing = closing - 1
  if closing == 0 then
    local all = closed
    closed = {}
    stop_running(all)
  end
end

-- A batch fails or is stopped, and all below it: what has not started never does, what runs is asked to stop.
function Fan.close(id, state)
  Moves.set_batch(id, { [B.STATE] = state, [B.FINISHED] = NOW })
  closing_with(id, function()
    close_inner(id)
    if Fan.left <= 0 then return end
    local places = places_in(beginning(K.index, 'b' .. id .. '\0', Fan.left))
    Fan.left = Fan.left - #places
    cancel_unstarted(places)
  end)
end

-- Goes on below a batch that has ended; whether that came to its end.
function Fan.close_on(id)
  local before = #Fan.unfinished
  closing_with(id, function() close_inner(id) end)
  return #Fan.unfinished == before
end

function Fan.ask_to_stop(job, reason)
  if not job[STOPPING] then
    job[STOPPING], job[REASON] = true, reason
    Rows.changed[job] = true
  end
end

local function first_bad(id, kind)
  local member = beginning(K.index, 'e' .. kind .. id .. '\0', 1)[1]
  return member and Rows.job(sub(member, -14))
end

-- How a piece is called in an error: by its key or its number.
function Fan.name(piece)
  return Rows.fixed(piece)[F.PIECE] or tostring(piece[ORDINAL] or 0)
end

-- Names the first failed piece, else the first cancelled one: {type, message, traceback}.
function Fan.why_failed(id)
  Rows.write('index')
  local piece = first_bad(id, 'f')
  if piece then
    local error = Rows.error(piece)
    local why = error and error[1] .. ': ' .. error[2] or piece[REASON] or 'no reason was given'
    return { 'PieceFailed', 'piece ' .. Fan.name(piece) .. ' failed: ' .. why, error and error[3] or '' }
  end
  piece = first_bad(id, 'x')
  if not piece then return { 'PieceFailed', 'a piece failed', '' } end
  local why = piece[REASON] or 'no reason was given'
  return { 'PieceFailed', 'piece ' .. Fan.name(piece) .. ' was cancelled: ' .. why, '' }
end
