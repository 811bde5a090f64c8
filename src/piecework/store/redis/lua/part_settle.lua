-- Ends of runs: what was sent, judged by what became of the job meanwhile, recorded, and followed upward.

local S = {
  ID = 1, RUN = 2, STATE = 3, ATTEMPT = 4, QUEUE = 5, RESULT = 6, DELAY = 7, CURSOR = 8, BATCH = 9, ERROR = 10,
  REASON = 11, HISTORY = 12, SEAL = 13, ADVANCE = 14,
}
local LETTER = {
  waiting = 'w', available = 'a', running = 'r', completed = 'c', failed = 'f', cancelled = 'x', parked = 'p',
}
local COMES_BACK = { a = true, w = true, r = true }

local Settle = {}

local function owns(job, run)
  return job and job[STATE] == 'r' and job[RUN] == run
end

-- What is told of a run that has ended: whether it ended by this settlement, and whether it still goes on.
local function sent_again(job, s)
  if not job or job[SETTLED] ~= s[S.RUN] then return 'stale' end
  return s[S.STATE] == 'running' and not owns(job, s[S.RUN] + 1) and 'let go' or 'already'
end

-- ── what a run comes to ─────────────────────────────────────────────────────────────────────────

-- It stopped because it was asked to.
local function stopped(job, s, state)
  s[S.STATE], s[S.REASON], s[S.HISTORY], s[S.CURSOR], s[S.SEAL] = state, job[REASON], 'cancelled', nil, nil
end

local function failing(s, error)
  s[S.STATE], s[S.ERROR], s[S.HISTORY], s[S.CURSOR], s[S.SEAL] = 'f', error, 'failed', nil, nil
end

-- It has moved on, but not for what it would have waited for, nor here; or to its end, and does not stay there.
local function made_available(s)
  s[S.STATE], s[S.DELAY], s[S.RESULT] = 'a', s[S.DELAY] or 0, nil
end

-- Not what has failed; the end of its last step is as that of any other.
local function can_be_undone(s)
  local state = s[S.STATE]
  return COMES_BACK[state] or state == 'x' or (state == 'c' and s[S.ADVANCE])
end

local paused = {} -- queue -> whether it is

local function is_paused(queue)
  if paused[queue] == nil then paused[queue] = call('SISMEMBER', K.paused, queue) == 1 end
  return paused[queue]
end

-- Its queue is paused; or its globals were edited by hand during this run, and a fetch is to bring them.
local function may_not_stay(job, queue)
  return Rows.operation(job)[O.EDITED] == job[RUN] or is_paused(queue or job[QUEUE])
end

local function changed_split(names, offered)
  local shown = concat(names, ', ', 1, min(#names, 5)) .. (#names > 5 and ', …' or '')
  return { 'SplitChanged', 'the splitter was run again and offered ' .. offered .. ' pieces, but not these, which an earlier run ' ..
    'had offered: ' .. shown .. '. Make the splitter repeatable, or cancel those pieces, and retry the job', '' }
end

-- A splitter, or what follows it, ends as its batch did; what follows an `always` batch decides for itself. `strays`: what the
-- client has found; says whether it has to look for them first.
local function judge_by_pieces(job, s, strays)
  if s[S.SEAL] and not Fan.own(job) then -- a splitter without pieces
    local id = s[S.ID]
    if Rows.batch(id) then id = id .. '.' .. s[S.RUN] end
    Fan.open({ id, s[S.ID], 'finish' })
    Fan.put_below(id)
  end
  local own = Fan.own(job)
  if not own or (Fan.is_dead(own) and own[B.ALWAYS]) then return end
  local state = s[S.STATE]
  local ends = state == 'w' or state == 'x' or state == 'f'
  if own[B.STATE] == 'failed' and ends then return failing(s, Fan.why_failed(job[BELOW])) end
  if own[B.STATE] == 'stopped' and ends then
    s[S.STATE], s[S.HISTORY], s[S.CURSOR], s[S.SEAL] = 'x', 'cancelled', nil, nil
    return
  end
  if s[S.SEAL] and s[S.SEAL] ~= own[B.TOTAL] then
    local names, on = strays, nil
    if not names then names, on = Strays.page(job[BELOW], s[S.RUN]) end
    if on then return true end
    if #names > 0 then failing(s, changed_split(names, s[S.SEAL])) end
  end
end

-- What a run comes to, where it was asked to stop, or its queue is paused, or something became of its pieces. Says whether that
-- cannot be told before there was a look at more pieces than one script looks at.
local function judge(job, s, strays)
  local state, advance = s[S.STATE], s[S.ADVANCE]
  if job[TO_UNDO] and can_be_undone(s) then
    if advance then made_available(s) else stopped(job, s, 'a') end
    return
  end
  if job[STOPPING] and COMES_BACK[state] then
    if advance then s[S.STATE], s[S.REASON] = 'x', job[REASON] else stopped(job, s, 'x') end
  elseif job[STOPPING] and state == 'x' then
    s[S.REASON] = job[REASON] or s[S.REASON]
  elseif state == 'r' and advance and may_not_stay(job, advance.queue) then
    made_available(s)
  end
  state = s[S.STATE]
  if state ~= 'c' and state ~= 'r' and (s[S.SEAL] or job[BELOW]) then return judge_by_pieces(job, s, strays) end
end

-- ── what is kept of it ──────────────────────────────────────────────────────────────────────────

-- What stays of a run, whatever state the job is in now.
local function record(job, s, written)
  local advance = s[S.ADVANCE]
  if s[S.HISTORY] then
    local more = advance and { at = advance.at, changes = written.changes, route = written.route }
    History.remember_first(job, s[S.HISTORY], s[S.ATTEMPT], s[S.ERROR], s[S.REASON], more)
  end
  job[ATTEMPT], job[CURSOR], job[REASON] = s[S.ATTEMPT], s[S.CURSOR] or job[CURSOR], s[S.REASON]
  if s[S.RESULT] or job[RESULT] then Rows.set_result(job, s[S.RESULT]) end
  if s[S.ERROR] or job[ERROR] then Rows.set_error(job, s[S.ERROR]) end
  if advance then
    Walk.advance(job, advance, written)
    if s[S.STATE] == 'c' and job[BATCH] and job[OPERATION] then
      Rows.set_result(job, Walk.globals_text(job)) -- with what somebody set meanwhile
    end
  end
end

-- The job is in nobody's hands: it comes back, waits, or is parked.
local function lay_down(job, s, before)
  local state, fields = s[S.STATE], { [STOPPING] = false }
  if s[S.DELAY] or s[S.CURSOR] then fields[EXPIRES] = false end
  local handed_back = not s[S.DELAY] and s[S.ATTEMPT] == before and not s[S.ADVANCE]
  if state == 'a' and not handed_back then fields[RUN_AT] = NOW + (s[S.DELAY] or 0) end
  Moves.to(job, state, fields)
  local own = Fan.own(job)
  if s[S.SEAL] and own then
    Fan.seal(job[BELOW])
    if Fan.is_dead(own) then Fan.release(job[BELOW]) end -- an `always` batch that has failed already
  end
  if state ~= 'p' and job[TO_UNDO] then
    Walk.undo(job)
  elseif state == 'w' then
    Walk.listen(job)
  end
end

-- `written` has the texts of what an advance says, where it is kept as text.
local function settle(job, s, written)
  if not owns(job, s[S.RUN]) then return sent_again(job, s) end
  s[S.STATE] = LETTER[s[S.STATE]]
  if s[S.ERROR] then s[S.ERROR] = { s[S.ERROR].type, s[S.ERROR].message, s[S.ERROR].traceback } end
  local goes_on, before = s[S.STATE] == 'r', job[ATTEMPT]
  if judge(job, s, written and written.strays) then return 'look' end
  job[SETTLED] = s[S.RUN]
  record(job, s, written)
  local state = s[S.STATE]
  if state == 'r' then
    job[RUN], job[STARTED] = s[S.RUN] + 1, NOW
    Rows.changed[job] = true
    return 'ok'
  end
  if FINISHED_STATE[state] then
    Fan.finish(job, state, s[S.ERROR], s[S.REASON])
  else
    lay_down(job, s, before)
  end
  if goes_on then job[RUN] = s[S.RUN] + 1 end -- nobody else gets the number under which its worker may think it runs
  return goes_on and 'let go' or 'ok'
end

-- Reads the operations that are to move on, all in one trip.
local function load_operations(settlements)
  local jobs = {}
  for _, s in ipairs(settlements) do
    local job = s[S.ADVANCE] and Rows.job(Rows.by_id[s[S.ID]])
    if job then jobs[#jobs + 1] = job end
  end
  Rows.load_operations(jobs)
end

-- Ends runs that came to more than a good end. `written`: by number of the settlement. Answers for each.
function Settle.all(settlements, written)
  local ids, places, answers = {}, {}, {}
  for k, s in ipairs(settlements) do ids[k] = s[S.ID] end
  Rows.look_up(ids)
  for _, id in ipairs(ids) do
    if Rows.by_id[id] then places[#places + 1] = Rows.by_id[id] end
  end
  Rows.load(places)
  load_operations(settlements)
  for k, s in ipairs(settlements) do
    answers[k] = settle(Rows.job(Rows.by_id[s[S.ID]]), s, written and written[k])
  end
  return answers
end

-- Ends runs that just completed: {id, run, attempt, result or false, id, …}. Answers what else is told of them than `ok`:
-- by number, as text.
function Settle.good_ends(flat)
  local ids, places, other = {}, {}, {}
  for k = 1, #flat, 4 do ids[#ids + 1] = flat[k] end
  local found = values(K.at, ids)
  for k = 1, #ids do places[k] = found[k] or '' end
  local rows = values(K.job, places)
  for k = 1, #ids do
    local run, attempt, result = flat[4 * k - 2], flat[4 * k - 1], flat[4 * k]
    if not Quick.complete(places[k], rows[k], run, attempt, result) then
      Rows.by_id[ids[k]] = found[k]
      local answer = settle(Rows.job(found[k]), { ids[k], run, 'completed', attempt, nil, result or nil })
      if answer ~= 'ok' then other[tostring(k)] = answer end
    end
  end
  return other
end
