-- Where a job is to be found, by what it is: in line, in lists, in counters. Whoever changes STATE, QUEUE, PRIORITY, RUN_AT,
-- WORKER, CLAIM, EXPIRES or CRASHED of a stored job lifts it before and sets it down afterwards; then all of these are right.

local FINISHED_STATE = { c = true, f = true, x = true }
local LIST = { w = 'w', a = 'a', r = 'a', c = 'c', f = 'f', x = 'x', p = 'p' } -- of `index`, by state
local BUSY = { w = true, a = true, r = true }
local COUNTER = { c = B.COMPLETED, f = B.FAILED, x = B.CANCELLED } -- of a batch, by the state of a piece

local Moves = {}

-- What stands behind the queue in a member of `line`.
function Moves.rank(job)
  return format('%08x', (job[PRIORITY] or 0) + 2147483648) .. moment(job[RUN_AT]) .. Rows.place[job]
end

local function stand_in_line(job, joins)
  local queue = job[QUEUE]
  if joins then
    put(Rows.sets.line, queue .. '\0' .. Moves.rank(job))
    Rows.woken = true
  else
    take_out(Rows.sets.line, queue .. '\0' .. Moves.rank(job))
  end
  Rows.in_line[queue] = (Rows.in_line[queue] or 0) + (joins and 1 or -1)
end

function Moves.running_member(job)
  return job[WORKER] .. '\0' .. (job[CLAIM] or '') .. '\0' .. Rows.place[job]
end

-- The kind of bad end that a piece came to; nil where it did not.
function Moves.bad_end(job)
  local state = job[STATE]
  if state == 'f' or job[CRASHED] then return 'f' end
  return (state == 'x' or state == 'p') and state or nil
end

local function ordinal_and_place(job)
  return format('%08x', job[ORDINAL] or 0) .. Rows.place[job]
end

-- ── batches: where they are to be found, and what their pieces come to ──────────────────────────

local function batch_postings(id, batch)
  local state, found = batch[B.STATE], {}
  if state == 'open' then
    found[1] = 'O' .. id
    if batch[B.ABOVE] then found[2] = 'A' .. batch[B.ABOVE] .. '\0' .. id end
  elseif state ~= 'done' and batch[B.OPEN] > 0 then
    found[1] = 'D' .. id
  end
  if batch[B.FINISHED] and not batch[B.THEN] then found[#found + 1] = 'L' .. moment(batch[B.FINISHED]) .. id end
  return found
end

-- Changes fields of a batch: {[B.STATE] = 'done', …}.
function Moves.set_batch(id, changes)
  local batch = Rows.batch(id)
  for _, posting in ipairs(batch_postings(id, batch)) do take_out(Rows.sets.index, posting) end
  for field, value in pairs(changes) do batch[field] = value end
  for _, posting in ipairs(batch_postings(id, batch)) do put(Rows.sets.index, posting) end
  Rows.changed_batches[id] = true
end

-- Keeps a batch that was not there before.
function Moves.new_batch(id, batch)
  Rows.batches[id] = batch
  for _, posting in ipairs(batch_postings(id, batch)) do put(Rows.sets.index, posting) end
  if batch[B.THEN] then put(Rows.sets.index, 'B' .. batch[B.THEN] .. '\0' .. id) end
  Rows.changed_batches[id] = true
end

-- Counts a piece in its batch (n = 1), or not any more (-1), under what it has come to.
local function count_in_batch(job, batch, n)
  local field = COUNTER[job[STATE]] or (job[CRASHED] and B.FAILED) or B.OPEN
  batch[field] = batch[field] + n
  Rows.changed_batches[job[BATCH]] = true
end

local function mark_piece(job, n)
  local id, batch, move = job[BATCH], Rows.batch(job[BATCH]), n > 0 and put or take_out
  local kind = Moves.bad_end(job)
  if kind then move(Rows.sets.index, 'e' .. kind .. id .. '\0' .. ordinal_and_place(job)) end
  if job[STATE] == 'w' then move(Rows.sets.index, 'c' .. id .. '\0' .. Rows.place[job]) end
  if batch then
    local dead = batch[B.STATE] == 'failed' or batch[B.STATE] == 'stopped'
    local before = batch[B.OPEN] > 0
    count_in_batch(job, batch, n)
    local after = batch[B.OPEN] > 0
    if dead and before ~= after then (after and put or take_out)(Rows.sets.index, 'D' .. id) end
  end
end

-- ── jobs ────────────────────────────────────────────────────────────────────────────────────────

local function count(job, n)
  local field = job[STATE] .. job[QUEUE]
  Rows.counts[field] = (Rows.counts[field] or 0) + n
end

local function list_posting(job)
  return 's' .. LIST[job[STATE]] .. job[QUEUE] .. '\0' .. Rows.place[job]
end

-- What shows whether an identity is busy with a job.
local function whose_posting(job)
  return (BUSY[job[STATE]] and 'y' or 'z') .. job[WHOSE] .. '\0' .. Rows.place[job]
end

-- What shows when a job of an identity said last how it is; nil where none of that is so.
function Moves.said_posting(job)
  if not job[WHOSE] or not job[STATUS_AT] then return nil end
  return 'v' .. job[WHOSE] .. '\0' .. moment(job[STATUS_AT]) .. Rows.place[job]
end

-- Takes a job out of everything that shows where it stands.
function Moves.lift(job)
  local state, place = job[STATE], Rows.place[job]
  count(job, -1)
  take_out(Rows.sets.index, list_posting(job))
  if state == 'a' then
    if job[AHEAD] then Rows.scores.later[place] = false else stand_in_line(job, false) end
    if job[EXPIRES] then Rows.scores.expiry[place] = false end
  elseif state == 'r' then
    take_out(Rows.sets.running, Moves.running_member(job))
  elseif state == 'w' and job[OPERATION] then
    Rows.scores.wake[place] = false
  end
  if job[WHOSE] then take_out(Rows.sets.index, whose_posting(job)) end
  if job[BATCH] then mark_piece(job, -1) end
end

-- Puts a job into everything that shows where it stands. One that is available joins the line: now, or with the first fetch
-- after its time has come.
function Moves.set_down(job)
  local state, place = job[STATE], Rows.place[job]
  count(job, 1)
  put(Rows.sets.index, list_posting(job))
  job[AHEAD] = nil
  if state == 'a' then
    if job[RUN_AT] > NOW then
      job[AHEAD] = true
      Rows.scores.later[place] = job[RUN_AT]
      Rows.woken = true
    else
      stand_in_line(job, true)
    end
    if job[EXPIRES] then Rows.scores.expiry[place] = job[EXPIRES] end
  elseif state == 'r' then
    put(Rows.sets.running, Moves.running_member(job))
  end
  if job[WHOSE] then put(Rows.sets.index, whose_posting(job)) end
  if job[BATCH] then mark_piece(job, 1) end
  Rows.changed[job] = true
end

-- Gives a job another state, and other fields with it: {[RUN_AT] = …}.
function Moves.to(job, state, fields)
  Moves.lift(job)
  if job[KEY] and FINISHED_STATE[state] ~= FINISHED_STATE[job[STATE]] then
    Moves.carry_key(job, not FINISHED_STATE[state])
  end
  job[STATE] = state
  if fields then
    for field, value in pairs(fields) do job[field] = value end
  end
  Moves.set_down(job)
end

-- The place of the unfinished job that carries a unique key, or nil.
function Moves.carrier(key)
  return key and Rows.held('unique', 'u' .. key)
end

-- A job carries its unique key, or does not any more.
function Moves.carry_key(job, does)
  local field, place = 'u' .. job[KEY], Rows.place[job]
  if does then
    Rows.hashes.unique[field] = place
  elseif Rows.held('unique', field) == place then
    Rows.hashes.unique[field] = false
  end
end

local function add_to(counts, field, n)
  counts[field] = (counts[field] or 0) + n
end

-- So many jobs of a queue arrived, and stand in its line.
function Moves.count_arrived(queue, n)
  add_to(Rows.in_line, queue, n)
  add_to(Rows.counts, 'a' .. queue, n)
  Rows.woken = true
end

-- So many jobs of a queue were taken out of its line, and run.
function Moves.count_taken(queue, n)
  add_to(Rows.in_line, queue, -n)
  add_to(Rows.counts, 'a' .. queue, -n)
  add_to(Rows.counts, 'r' .. queue, n)
end

-- So many jobs of a queue that ran have completed.
function Moves.count_completed(queue, n)
  add_to(Rows.counts, 'r' .. queue, -n)
  add_to(Rows.counts, 'c' .. queue, n)
end

-- A worker takes a job that stands in line.
function Moves.take(job, worker, claim)
  stand_in_line(job, false)
  if job[EXPIRES] then Rows.scores.expiry[Rows.place[job]] = false end
  count(job, -1)
  job[STATE], job[RUN], job[WORKER], job[CLAIM], job[STARTED] = 'r', job[RUN] + 1, worker, claim, NOW
  count(job, 1)
  put(Rows.sets.running, Moves.running_member(job))
  Rows.changed[job] = true
end


-- A job whose time has come joins its line.
function Moves.ripen(job)
  job[AHEAD] = nil
  Rows.scores.later[Rows.place[job]] = false
  stand_in_line(job, true)
  Rows.changed[job] = true
end

-- ── places ──────────────────────────────────────────────────────────────────────────────────────

local last_place

-- The place of a job that arrives now. Rises in a shard, and with time.
function Moves.next_place()
  if not last_place then
    last_place = max(tonumber(call('HGET', K.meta, 'last') or '0'), server_micros() - 1)
  end
  last_place = last_place + 1
  return format('%014x', last_place)
end

-- Remembers which place was given last: a script that called `next_place` calls this before its end.
function Moves.keep_last_place()
  if last_place then call('HSET', K.meta, 'last', format('%.0f', last_place)) end
end
