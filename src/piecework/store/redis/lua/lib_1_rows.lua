-- Rows: of jobs, batches and operations. They are read once in a script, changed in memory, and written by `Rows.flush()`.
--
-- A job is an array of what changes, by the numbers below. What is not set is nil or false; behind the last field that is
-- set, nothing is stored. What never changes is read only where it is asked for: `Rows.fixed(job)`.

-- What changes, the most common first: the first fifteen are also known to part_quick.
local STATE, RUN, QUEUE, PRIORITY, RUN_AT, ATTEMPT, CREATED = 1, 2, 3, 4, 5, 6, 7 -- STATE: w a r c f x p
local BATCH, ORDINAL, WORKER, CLAIM, STARTED = 8, 9, 10, 11, 12 -- ORDINAL: of a piece alone
local SETTLED, FINISHED, RESULT = 13, 14, 15 -- SETTLED: the last run that was settled
local KEY, OPERATION, CURSOR, BELOW, CRASHES = 16, 17, 18, 19, 20 -- OPERATION: whether it is one
local EXPIRES, AHEAD, ERROR, REASON, STOPPING, PROGRESS = 21, 22, 23, 24, 25, 26 -- AHEAD: it is in `later`, not in line
local STOPPED_BY, STOPPED_AT, CRASHED, TO_UNDO = 27, 28, 29, 30 -- CRASHED: parked, and counts as failed
local WHOSE, STATUS, STATUS_AT = 31, 32, 33 -- WHOSE: identity 0 task, of a job that has an identity
local LAST_FIELD = 33

-- What never does.
local F = { ID = 1, TASK = 2, ROOT = 3, PIECE = 4, OPTIONS = 5, ARGS = 6, TAGS = 7 } -- TAGS: of a job that has some

-- A batch. STATE: open, done, failed, stopped. SEALED: true; or 'held', while a retry brings its pieces back. ABOVE: the batch that `then` is a piece of; LAST: the
-- highest ordinal of a piece.
local B = {
  STATE = 1, TOTAL = 2, OPEN = 3, COMPLETED = 4, FAILED = 5, CANCELLED = 6, SEALED = 7, THEN = 8, ON_FAILURE = 9,
  CREATED = 10, FINISHED = 11, ALWAYS = 12, THEN_QUEUE = 13, THEN_PRIORITY = 14, ABOVE = 15, LAST = 16,
}

-- An operation beside its job. WAIT: {name, timeout, delay, run_at, as JSON}; ENDING: {reason, as JSON};
-- EDITED: the run during which its globals were edited by hand.
local O = { DIGEST = 1, KEY = 2, WAIT = 3, RECEIVED = 4, ENDING = 5, FORKED_FROM = 6, FORKED_AFTER = 7, EDITED = 8 }

local LONG = 1024 -- bytes from which a text stands beside its row

local Rows = {
  place = {}, -- job -> its place
  by_place = {}, -- place -> job; false: there is none
  by_id = {}, -- id -> place; false: there is none
  fixed_rows = {}, fixed_of = {}, -- job -> what never changes, packed and unpacked
  changed = {}, -- job -> true: to be written
  fields = { job = {}, fixed = {}, at = {} }, -- key -> field, value, …: to be written as they are; see part_quick
  written = {}, -- job -> the row as it is stored
  known = { unique = {}, offer = {} }, -- hash -> field -> value, of those that were looked into
  batches = {}, changed_batches = {}, -- id -> batch; false: there is none
  operations = {}, changed_operations = {}, -- place -> operation
  sets = { line = {}, index = {}, running = {}, trail = {} }, -- key -> member -> true: add, false: remove
  added = { line = {}, index = {}, running = {}, trail = {} }, -- key -> members that nothing else in this script touches, in
  removed = { line = {}, index = {}, running = {}, trail = {} }, -- the order in which they lie: writing them is quicker
  scores = { later = {}, expiry = {}, wake = {} }, -- key -> place -> score; false: remove
  hashes = { fixed = {}, text = {}, at = {}, unique = {}, offer = {}, globals = {}, plan = {} }, -- key -> field -> value; false: remove
  counts = {}, in_line = {}, walked = {}, -- what is added to counters: by state and queue, by queue, by digest of a plan
  trims = {}, -- {from, to} …: what of the trail is not kept any longer
  woken = false, -- whether there is work that was not there before
}

-- ── jobs ────────────────────────────────────────────────────────────────────────────────────────

local function adopt(place, raw)
  local job = unpack_all(raw)
  Rows.by_place[place], Rows.place[job], Rows.written[job] = job, place, raw
  return job
end

-- Reads jobs by their places, all in one trip; those that are not there are left out by `Rows.job`.
function Rows.load(places)
  local wanted = {}
  for _, place in ipairs(places) do
    if Rows.by_place[place] == nil then
      wanted[#wanted + 1] = place
      Rows.by_place[place] = false
    end
  end
  local found = values(K.job, wanted)
  for k = 1, #wanted do
    if found[k] then adopt(wanted[k], found[k]) end
  end
end

-- The job at a place, or nil.
function Rows.job(place)
  if not place then return nil end
  local job = Rows.by_place[place]
  if job == nil then
    Rows.load({ place })
    job = Rows.by_place[place]
  end
  return job or nil
end

-- Finds the places of ids, all in one trip: see `Rows.by_id`.
function Rows.look_up(ids)
  local wanted = {}
  for _, id in ipairs(ids) do
    if Rows.by_id[id] == nil then
      wanted[#wanted + 1] = id
      Rows.by_id[id] = false
    end
  end
  local found = values(K.at, wanted)
  for k = 1, #wanted do Rows.by_id[wanted[k]] = found[k] end
end

-- The place of an id, or nil.
function Rows.place_of(id)
  if not id then return nil end
  if Rows.by_id[id] == nil then Rows.look_up({ id }) end
  return Rows.by_id[id] or nil
end

-- The job with an id, or nil.
function Rows.with_id(id)
  return Rows.job(Rows.place_of(id))
end

-- Reads what never changes of jobs, all in one trip.
function Rows.load_fixed(jobs)
  local wanted, places = {}, {}
  for _, job in ipairs(jobs) do
    if not Rows.fixed_rows[job] then
      wanted[#wanted + 1] = job
      places[#places + 1] = Rows.place[job]
    end
  end
  local found = values(K.fixed, places)
  for k = 1, #wanted do Rows.fixed_rows[wanted[k]] = found[k] end
end

-- What never changes of a job, packed.
function Rows.fixed_row(job)
  if not Rows.fixed_rows[job] then Rows.load_fixed({ job }) end
  return Rows.fixed_rows[job]
end

-- What never changes of a job: an array by the numbers of F.
function Rows.fixed(job)
  local fixed = Rows.fixed_of[job]
  if not fixed then
    fixed = unpack_all(Rows.fixed_row(job))
    Rows.fixed_of[job] = fixed
  end
  return fixed
end

function Rows.id(job)
  return Rows.fixed(job)[F.ID]
end

-- A job that arrives: `job` as an array, and what never changes of it, packed.
function Rows.arrive(place, id, job, fixed_row)
  Rows.by_place[place], Rows.place[job], Rows.fixed_rows[job], Rows.by_id[id] = job, place, fixed_row, place
  Rows.hashes.at[id], Rows.hashes.fixed[place] = place, fixed_row
end

function Rows.touch(job)
  Rows.changed[job] = true
end

-- An array as it is stored: nothing behind the last value, false for what is not set before it.
local function packed(row)
  local last = table.maxn(row)
  while last > 0 and not row[last] do
    row[last] = nil
    last = last - 1
  end
  for k = 1, last do
    if row[k] == nil then row[k] = false end
  end
  return pack(row)
end

-- ── texts beside the row ────────────────────────────────────────────────────────────────────────

local function set_text(job, field, list, value)
  if job[field] == true then Rows.hashes.text[list .. Rows.place[job]] = false end
  if value and #value > LONG then
    Rows.hashes.text[list .. Rows.place[job]] = value
    value = true
  end
  job[field] = value or nil
end

-- Sets RESULT, a string.
function Rows.set_result(job, result)
  set_text(job, RESULT, 'r', result)
end

-- Sets STATUS, a string.
function Rows.set_status(job, status)
  set_text(job, STATUS, 's', status)
end

-- Sets ERROR, {type, message, traceback}.
function Rows.set_error(job, error)
  if job[ERROR] == true then Rows.hashes.text['e' .. Rows.place[job]] = false end
  if error and #error[2] + #error[3] > LONG then
    Rows.hashes.text['e' .. Rows.place[job]] = pack(error)
    error = true
  end
  job[ERROR] = error or nil
end

local function text(field)
  local pending = Rows.hashes.text[field]
  if pending == nil then pending = call('HGET', K.text, field) end
  return pending
end

-- ERROR as {type, message, traceback}, or nil.
function Rows.error(job)
  if job[ERROR] ~= true then return job[ERROR] or nil end
  return unpack_all(text('e' .. Rows.place[job]))
end

function Rows.result(job)
  if job[RESULT] ~= true then return job[RESULT] or nil end
  return text('r' .. Rows.place[job])
end

function Rows.status(job)
  if job[STATUS] ~= true then return job[STATUS] or nil end
  return text('s' .. Rows.place[job])
end

-- ── batches and operations ──────────────────────────────────────────────────────────────────────

-- The batch with an id, or nil.
function Rows.batch(id)
  if not id then return nil end
  local batch = Rows.batches[id]
  if batch == nil then
    local raw = call('HGET', K.batch, id)
    batch = raw and unpack_all(raw)
    Rows.batches[id] = batch
  end
  return batch or nil
end

-- Reads what these jobs are as operations, all in one trip.
function Rows.load_operations(jobs)
  local wanted = {}
  for _, job in ipairs(jobs) do
    local place = Rows.place[job]
    if job[OPERATION] and Rows.operations[place] == nil then wanted[#wanted + 1] = place end
  end
  local found = values(K.operation, wanted)
  for k = 1, #wanted do Rows.operations[wanted[k]] = unpack_all(found[k]) end
end

-- What a job is as an operation, or nil.
function Rows.operation(job)
  if not job[OPERATION] then return nil end
  local place = Rows.place[job]
  local operation = Rows.operations[place]
  if operation == nil then
    operation = unpack_all(call('HGET', K.operation, place))
    Rows.operations[place] = operation
  end
  return operation
end

function Rows.touch_operation(job)
  Rows.changed_operations[Rows.place[job]] = true
end

-- Looks for fields of a hash, all in one trip: see `Rows.held`.
function Rows.look(hash, fields)
  local found, known = values(K[hash], fields), Rows.known[hash]
  for k = 1, #fields do known[fields[k]] = found[k] end
end

-- What a hash will hold for a field once this script has ended: a string, or nil.
function Rows.held(hash, field)
  local value = Rows.hashes[hash][field]
  if value == nil and Rows.known[hash] then value = Rows.known[hash][field] end
  if value == nil then value = call('HGET', K[hash], field) end
  return value or nil
end

-- The row of a job as it is stored, but with its long texts in it.
function Rows.told(job)
  if job[RESULT] ~= true and job[ERROR] ~= true and job[STATUS] ~= true then return Rows.written[job] end
  local row = {}
  for k = 1, LAST_FIELD do row[k] = job[k] or false end
  row[RESULT], row[ERROR], row[STATUS] = Rows.result(job) or false, Rows.error(job) or false, Rows.status(job) or false
  return pack(row)
end

-- ── members of ordered sets ─────────────────────────────────────────────────────────────────────

-- Puts a member in, or takes it out; that it was not there, or was, is for the caller to know.
local function put(set, member)
  if set[member] == false then set[member] = nil else set[member] = true end
end

local function take_out(set, member)
  if set[member] == true then set[member] = nil else set[member] = false end
end
