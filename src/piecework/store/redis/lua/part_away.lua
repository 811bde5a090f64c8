-- Jobs whose worker is gone.

local Away = {}

-- To the head of its queue, its moment unchanged; unless it was asked to stop, then it has.
local function hand_back(job)
  if job[TO_UNDO] then
    Walk.undo(job)
  elseif job[STOPPING] and job[BELOW] and Fan.own(job) and Fan.own(job)[B.STATE] == 'failed' then
    Fan.finish(job, 'f', Fan.why_failed(job[BELOW]))
  elseif job[STOPPING] then
    Fan.finish(job, 'x', nil, job[REASON])
  else
    Moves.to(job, 'a')
  end
end

-- A run's worker is gone; with a limit, the run is to blame. Poison is parked, and counts as failed in its batch.
local function take_away(job, reason, crash_limit)
  History.remember(job, crash_limit and 'crashed' or 'released', job[ATTEMPT], nil, reason)
  if crash_limit then job[CRASHES], job[EXPIRES] = (job[CRASHES] or 0) + 1, nil end
  Rows.changed[job] = true
  if crash_limit and job[CRASHES] >= crash_limit and not job[STOPPING] then
    local why = reason and reason ~= '' and reason or 'its worker died while running it'
    local said = 'its worker died ' .. job[CRASHES] .. ' times while running it (' .. why .. ')'
    Moves.to(job, 'p', { [REASON] = said, [CRASHED] = true, [FINISHED] = NOW })
    Fan.count_piece(job)
  else
    hand_back(job)
  end
end

-- Returns jobs of the workers whose names begin so, and answers their ids. `crashed`: id -> true for those to blame.
function Away.take(limit, beginning_of_worker, reason, crashed, crash_limit)
  local places, ids = {}, {}
  for k, member in ipairs(beginning(K.running, beginning_of_worker, limit)) do places[k] = sub(member, -14) end
  Rows.load(places)
  for _, place in ipairs(places) do
    local job = Rows.job(place)
    local id = Rows.id(job)
    ids[#ids + 1] = id
    take_away(job, reason, crashed[id] and crash_limit)
  end
  return ids
end

-- Notes that a session is being ended: for itself it is dead, and whoever watches it still sees it with its last beat, until
-- all its jobs have been returned.
function Away.mark(id, raw)
  local session = unpack_all(raw)
  session[7], session[8] = session[7] or false, true
  call('HSET', K.session, id, pack(session))
end
