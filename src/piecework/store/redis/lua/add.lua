#!lua
-- with: quick
-- Stores jobs, all or none, and answers the ids under which they are stored. Told {batch or false, {id, run} of a fence or
-- false, headers, jobs}. ARGV from 3 on: what never changes of each job, packed.
--   batch   {id, then, on_failure, then_queue, then_priority, always}
--   header  what jobs of one call have in common: see H; job: see N; what is not set is false
local H = {
  TASK = 1, QUEUE = 2, PRIORITY = 3, STATE = 4, RUN_AT = 5, DELAY = 6, BATCH = 7, ROOT = 8, EXPIRES = 9, EXPIRES_AT = 10,
}
local N = { HEADER = 1, ID = 2, KEY = 3, ORDINAL = 4, PIECE = 5, CURSOR = 6, OPERATION = 7, IDENTITY = 8, TAGS = 9 }
-- PIECE: key or number; IDENTITY, TAGS: only of a job that has one of them
-- An operation: DIGEST, PLAN, GLOBALS {{key, value, terms} …}, AGAIN, FORKED_FROM, FORKED_AFTER, WAIT as in its row, RECEIVED
local P = { DIGEST = 1, PLAN = 2, GLOBALS = 3, AGAIN = 4, FORKED_FROM = 5, FORKED_AFTER = 6, WAIT = 7, RECEIVED = 8 }

local new_batch, fence, headers, jobs = ASKED[1], ASKED[2], ASKED[3], ASKED[4]

local function header(new)
  return headers[new[N.HEADER]]
end

-- Looks for all that the call names, in few trips.
local function look_around()
  local ids, carried, offered = {}, {}, {}
  for k, new in ipairs(jobs) do
    local batch = header(new)[H.BATCH]
    ids[k] = new[N.ID]
    if new[N.KEY] then
      carried[#carried + 1] = 'u' .. new[N.KEY]
      if new[N.OPERATION] then carried[#carried + 1] = 'o' .. new[N.KEY] end
    end
    if batch then offered[#offered + 1] = batch .. '\0' .. new[N.PIECE] end
  end
  Rows.look_up(ids)
  Rows.look('unique', carried)
  Rows.look('offer', offered)
end

local function check_fence()
  if not fence then return end
  local job = Rows.with_id(fence[1])
  if not job or job[STATE] ~= 'r' or job[RUN] ~= fence[2] then
    refuse('LeaseLost', 'run ' .. fence[2] .. ' of job ' .. fence[1] .. ' does not own its job any more')
  end
end

-- ── pieces ──────────────────────────────────────────────────────────────────────────────────────

local function shown(new)
  return "piece '" .. new[N.PIECE] .. "'"
end

-- Says whether the batch still takes pieces; refuses what it does not take.
local function takes(new, id)
  local batch = Rows.batch(id)
  if not batch then refuse('UsageError', 'there is no batch ' .. id .. '; open it by adding it together with its first pieces') end
  if batch[B.SEALED] then
    if Rows.place_of(new[N.ID]) then return false end -- sent again, after the seal
    refuse('UsageError', 'batch ' .. id .. ' is sealed; it takes no further pieces')
  end
  if Fan.is_dead(batch) then
    refuse('JobCancelled', 'batch ' .. id .. ' has ' .. batch[B.STATE] .. '; it takes no further pieces')
  end
  return true
end

local arrived = {} -- place -> what never changes of a piece that this call stores there, packed, where it is no row in memory

local function fixed_at(place)
  return arrived[place] and unpack_all(arrived[place]) or Rows.fixed(Rows.job(place))
end

local function as_call(fixed)
  return fixed[F.TASK] .. '(' .. sub(fixed[F.ARGS], 1, 200) .. ')'
end

local function check_same(new, fixed_row, place)
  local before, now = fixed_at(place), unpack_all(fixed_row)
  if before[F.TASK] == now[F.TASK] and before[F.ARGS] == now[F.ARGS] then return end
  refuse('SplitChanged', shown(new) .. ' was offered before as ' .. as_call(before) .. ' and now as ' .. as_call(now) .. '; a splitter ' ..
    'that is run again must offer the same pieces: give them keys that tell them apart, or make it repeatable')
end

-- Notes which run offered a piece, and under which id.
local function note_offer(new, id, place)
  Rows.hashes.offer[id .. '\0' .. new[N.PIECE]] = pack({ place, fence and fence[2] or 0, new[N.ID] })
end

-- Returns the place of a piece that was offered before, where it is stored.
local function offer(new, fixed, id)
  if not takes(new, id) then return Rows.place_of(new[N.ID]) end
  local raw = Rows.held('offer', id .. '\0' .. new[N.PIECE])
  if not raw then return nil end
  local known = unpack_all(raw)
  if fence then
    if known[2] == fence[2] and known[3] ~= new[N.ID] then
      refuse('SplitChanged', shown(new) .. " was offered twice; a split's keys must be different from each other")
    end
    note_offer(new, id, known[1])
  end
  if known[1] then check_same(new, fixed, known[1]) end
  return known[1]
end

local numbered = {} -- what stands in front of the places of pieces that this call stores

-- The number of a piece in its batch: its own, or behind all others where another piece has that; and what stands for it
-- in front of its place.
local function ordinal_of(new, id)
  local batch, ordinal, front = Rows.batch(id), new[N.ORDINAL] or 0, 'b' .. id .. '\0'
  local last = batch[B.LAST] or -1
  local number = front .. format('%08x', ordinal)
  if ordinal <= last and (numbered[number] or #beginning(K.index, number, 1) > 0) then
    ordinal = last + 1
    number = front .. format('%08x', ordinal)
  end
  batch[B.LAST] = max(last, ordinal)
  numbered[number] = true
  return ordinal, number
end

-- A new piece is counted in its batch, and found by it.
local function join_batch(new, id, place)
  local batch, index = Rows.batch(id), Rows.added.index
  local ordinal, number = ordinal_of(new, id)
  batch[B.TOTAL] = batch[B.TOTAL] + 1
  Rows.changed_batches[id] = true
  index[#index + 1] = number .. place
  note_offer(new, id, place)
  return ordinal
end

-- ── operations ──────────────────────────────────────────────────────────────────────────────────

-- Keeps an operation beside its job; an ended one that has its key loses it.
local function begin_operation(job, new)
  local said, place, key = new[N.OPERATION], Rows.place[job], new[N.KEY]
  local before = key and Rows.job(Rows.held('unique', 'o' .. key))
  if before then
    Rows.operation(before)[O.KEY] = nil
    Rows.touch_operation(before)
  end
  if key then Rows.hashes.unique['o' .. key] = place end
  if not Rows.held('plan', 'p' .. said[P.DIGEST]) then Rows.hashes.plan['p' .. said[P.DIGEST]] = said[P.PLAN] end
  Rows.walked[said[P.DIGEST]] = (Rows.walked[said[P.DIGEST]] or 0) + 1
  Rows.operations[place] = {
    said[P.DIGEST], key, said[P.WAIT], said[P.RECEIVED], false, said[P.FORKED_FROM], said[P.FORKED_AFTER],
  }
  Rows.touch_operation(job)
  put(Rows.sets.index, 'o' .. place)
  Walk.change_globals(job, said[P.GLOBALS])
  Walk.listen(job)
end

-- ── jobs ────────────────────────────────────────────────────────────────────────────────────────

-- The place of the job that has the unique key: one that is unfinished, or the operation that another one finds by it.
local function holder(new)
  local key, operation = new[N.KEY], new[N.OPERATION]
  if not key then return nil end
  local held = operation and not operation[P.AGAIN] and Rows.held('unique', 'o' .. key)
  return held or Moves.carrier(key)
end

-- Tags change nothing of the way that a job goes: only these show them.
local function post_tags(new, place)
  for _, tag in ipairs(new[N.TAGS]) do put(Rows.sets.index, '#' .. tag .. '\0' .. place) end
end

local function post(new, common, place)
  put(Rows.sets.index, 't' .. common[H.TASK] .. '\0' .. place)
  if common[H.ROOT] then put(Rows.sets.index, 'r' .. common[H.ROOT] .. '\0' .. place) end
  if new[N.KEY] then put(Rows.sets.index, 'k' .. new[N.KEY] .. '\0' .. place) end
  if new[N.IDENTITY] then put(Rows.sets.index, 'i' .. new[N.IDENTITY] .. '\0' .. place) end
end

-- What plain jobs of a header have in common: see part_quick; false where they are not plain.
local kinds = {}

local function kind_of(new)
  if new[N.KEY] or new[N.OPERATION] or new[N.IDENTITY] then return false end
  local kind = kinds[new[N.HEADER]]
  if kind == nil then
    local common = header(new)
    local run_at = common[H.RUN_AT] or NOW + (common[H.DELAY] or 0)
    kind = not (common[H.EXPIRES] or common[H.EXPIRES_AT]) and Quick.kind(common[H.STATE], common[H.TASK], common[H.QUEUE],
      common[H.PRIORITY], run_at, common[H.BATCH], common[H.ROOT]) or false
    kinds[new[N.HEADER]] = kind
  end
  return kind
end

local function store(new, fixed)
  local common, place, kind = header(new), Moves.next_place(), kind_of(new)
  if new[N.TAGS] then post_tags(new, place) end
  if kind then
    local batch = common[H.BATCH]
    Quick.arrive(kind, place, new[N.ID], fixed, batch and join_batch(new, batch, place))
    arrived[place] = batch and fixed
    if batch then Rows.batch(batch)[B.OPEN] = Rows.batch(batch)[B.OPEN] + 1 end
    return new[N.ID]
  end
  local run_at = common[H.RUN_AT] or NOW + (common[H.DELAY] or 0)
  local job = {
    common[H.STATE], 0, common[H.QUEUE], common[H.PRIORITY], run_at, 0, NOW,
    [KEY] = new[N.KEY], [CURSOR] = new[N.CURSOR], [OPERATION] = new[N.OPERATION] and true,
    [EXPIRES] = common[H.EXPIRES] and run_at + common[H.EXPIRES] or common[H.EXPIRES_AT],
    [WHOSE] = new[N.IDENTITY] and new[N.IDENTITY] .. '\0' .. common[H.TASK],
  }
  Rows.arrive(place, new[N.ID], job, fixed)
  if common[H.BATCH] then
    job[ORDINAL] = join_batch(new, common[H.BATCH], place)
    job[BATCH] = common[H.BATCH]
  end
  post(new, common, place)
  Moves.set_down(job)
  if new[N.KEY] then Moves.carry_key(job, true) end
  if new[N.OPERATION] then begin_operation(job, new) end
  return new[N.ID]
end

-- The id under which a job is stored, now or before.
local function add(new, fixed)
  local batch, place = header(new)[H.BATCH], Rows.place_of(new[N.ID])
  local stored = batch and offer(new, fixed, batch)
  if place then return new[N.ID] end
  if stored then return fixed_at(stored)[F.ID] end
  local held = holder(new)
  if not held then return store(new, fixed) end
  if batch and fence then note_offer(new, batch, false) end
  return fixed_at(held)[F.ID]
end

return verb(function()
  look_around()
  check_fence()
  local opens = new_batch and not Rows.batch(new_batch[1])
  if opens then Fan.open(new_batch) end
  local answers = {}
  for k, new in ipairs(jobs) do answers[k] = add(new, told_beside(k)) end
  Moves.keep_last_place()
  Rows.flush()
  if opens then
    Fan.put_below(new_batch[1])
    Rows.flush()
  end
  return answers
end)
