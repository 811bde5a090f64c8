-- Deleting: of a job that is deleted nothing is left, neither in lists nor beside its row.

local Erase = { places = {}, n = 0, weight = 0 }
local LINES = 500 -- of a trail that one script deletes
local LINE = 256 -- bytes as which one counts
local HEAVY = 4194304 -- bytes of what never changes, read because it is to be deleted, that are enough for one script

local TOLD = { 'h', 'v', 'u', 't', 'i', 'd', 'j' } -- what `trail` has of an operation

local function postings(job)
  local place, fixed = Rows.place[job], Rows.fixed(job)
  local found = { 't' .. fixed[F.TASK] .. '\0' .. place }
  local root = fixed[F.ROOT] or job[BATCH]
  if root then found[#found + 1] = 'r' .. root .. '\0' .. place end
  if job[BATCH] then found[#found + 1] = 'b' .. job[BATCH] .. '\0' .. ordinal_and_place(job) end
  if job[KEY] then found[#found + 1] = 'k' .. job[KEY] .. '\0' .. place end
  if job[WHOSE] then found[#found + 1] = 'i' .. sub(job[WHOSE], 1, -#fixed[F.TASK] - 2) .. '\0' .. place end
  for _, tag in ipairs(fixed[F.TAGS] or {}) do found[#found + 1] = '#' .. tag .. '\0' .. place end
  found[#found + 1] = Moves.said_posting(job)
  return found
end

local function erase_texts(job)
  local place = Rows.place[job]
  if job[RESULT] == true then Rows.hashes.text['r' .. place] = false end
  if job[ERROR] == true then Rows.hashes.text['e' .. place] = false end
  if job[STATUS] == true then Rows.hashes.text['s' .. place] = false end
end

local function erase_operation(job)
  local place, operation = Rows.place[job], Rows.operation(job)
  for _, change in ipairs(Walk.globals(job)) do
    for _, term in ipairs(change[3] or {}) do Rows.sets.index['g' .. term .. '\0' .. place] = false end
  end
  Rows.sets.index['o' .. place] = false
  Rows.hashes.globals[place] = false
  Rows.walked[operation[O.DIGEST]] = (Rows.walked[operation[O.DIGEST]] or 0) - 1
  local held = operation[O.KEY] and 'o' .. operation[O.KEY]
  if held and Rows.held('unique', held) == place then Rows.hashes.unique[held] = false end
  call('HDEL', K.operation, place)
  Rows.operations[place], Rows.changed_operations[place] = false, nil
end

-- What is told of a job's runs; one that completed at once has nothing. Where it is long, it is a grave of its own.
local function erase_trail(job)
  local place = Rows.place[job]
  if job[OPERATION] and job[RUN] > LINES then
    put(Rows.sets.index, 'T' .. place)
    return
  end
  local lists = job[OPERATION] and TOLD or ((job[RUN] > 1 or job[STATE] ~= 'c') and { 'h' } or {})
  if #lists > 0 then Erase.weight = Erase.weight + LINE * min(job[RUN], LINES) end
  for _, list in ipairs(lists) do
    local prefix = list .. place
    Rows.trims[#Rows.trims + 1] = { '[' .. prefix, '(' .. prefix .. '\255' }
  end
end

-- Deletes lines of the trail of a job that was deleted: whether there are no more.
local function dig_trail(place)
  local room = LINES
  for _, list in ipairs(TOLD) do
    local members = beginning(K.trail, list .. place, room)
    for _, member in ipairs(members) do take_out(Rows.sets.trail, member) end
    room = room - #members
    if room == 0 then return false end
  end
  return true
end

-- Deletes a batch's row; its pieces are for the caller.
function Erase.batch(id)
  local batch = Rows.batch(id)
  if not batch then return end
  for _, posting in ipairs(batch_postings(id, batch)) do Rows.sets.index[posting] = false end
  if batch[B.THEN] then Rows.sets.index['B' .. batch[B.THEN] .. '\0' .. id] = false end
  if batch[B.SEALED] == 'held' then Rows.sets.index['H' .. id] = false end
  call('HDEL', K.batch, id)
  Rows.batches[id], Rows.changed_batches[id] = false, nil
end

-- The batches below a job; most have had none, and are not looked for.
function Erase.batches_below(job)
  if not (job[BELOW] or job[OPERATION]) then return {} end
  local prefix = 'B' .. Rows.id(job) .. '\0'
  local members = beginning(K.index, prefix)
  for k, member in ipairs(members) do members[k] = sub(member, #prefix + 1) end
  return members
end

-- Deletes a job, and answers the batches that it was the continuation of, which are deleted, too, but for their pieces.
-- With `counts_on`, the batch that it is a piece of counts it still.
function Erase.job(job, counts_on)
  local id, place, batch = Rows.id(job), Rows.place[job], Rows.batch(job[BATCH])
  Erase.weight = Erase.weight + #Rows.fixed_row(job)
  local below = Erase.batches_below(job)
  Moves.lift(job)
  if batch and counts_on then
    count_in_batch(job, batch, 1)
  elseif batch then
    batch[B.TOTAL] = batch[B.TOTAL] - 1
  end
  if job[KEY] then Moves.carry_key(job, false) end
  for _, posting in ipairs(postings(job)) do Rows.sets.index[posting] = false end
  erase_texts(job)
  erase_trail(job)
  if job[OPERATION] then erase_operation(job) end
  if job[BATCH] then
    local key = Rows.fixed(job)[F.PIECE] or tostring(job[ORDINAL] or 0)
    Rows.hashes.offer[job[BATCH] .. '\0' .. key] = false
  end
  Rows.hashes.at[id], Rows.hashes.fixed[place] = false, false
  Rows.by_id[id], Rows.by_place[place], Rows.changed[job] = false, false, nil
  Erase.places[#Erase.places + 1] = place
  Erase.n = Erase.n + 1
  for _, inner in ipairs(below) do Erase.batch(inner) end
  return below
end

-- Reads the jobs at the ends of some postings, all in one trip.
function Erase.load(members)
  local jobs = {}
  for k = 1, #members do members[k] = sub(members[k], -14) end
  Rows.load(members)
  for k, place in ipairs(members) do jobs[k] = Rows.job(place) end
  return jobs
end

-- Writes what was deleted.
function Erase.flush()
  Rows.flush()
  in_bites('HDEL', K.job, Erase.places, 1)
  in_bites('HDEL', K.fixed, Erase.places, 1)
  Erase.places = {}
end

-- ── trees ───────────────────────────────────────────────────────────────────────────────────────

-- A member of a tree has ended, or is parked.
local function is_over(job)
  return FINISHED_STATE[job[STATE]] or job[STATE] == 'p' or false
end

-- Adds the batches below a job to what is still to be looked at; false where one of them is open.
local function push_below(job, left)
  if not (job[BELOW] or job[OPERATION]) then return true end
  for _, id in ipairs(Erase.batches_below(job)) do
    if Fan.is_open(Rows.batch(id)) then return false end
    left[#left + 1] = { id, false }
  end
  return true
end

-- Whether a job, and all below it, has ended; nothing of that is open or runs. `left` is a stack of {batch, behind which piece
-- to go on}. Looks at `room` pieces at most; answers whether all that it saw is over, and how much room is left.
function Erase.survey(left, room)
  while #left > 0 and room > 0 do
    local id, behind = left[#left][1], left[#left][2]
    left[#left] = nil
    local prefix = 'b' .. id .. '\0'
    local members = beginning(K.index, prefix, room, behind and prefix .. behind or nil)
    if #members == room then left[#left + 1] = { id, sub(members[room], -22) } end
    room = room - #members
    for _, piece in ipairs(Erase.load(members)) do
      if not is_over(piece) or not push_below(piece, left) then return false, room end
    end
  end
  return true, room
end

-- Whether a job may go, by itself and by what is above it: the batch that it is a piece of, and the root of its tree.
function Erase.may_go(job)
  if not is_over(job) or Fan.is_open(Rows.batch(job[BATCH])) then return false end
  local root = Rows.with_id(Rows.fixed(job)[F.ROOT] or job[BATCH])
  return not root or root[STATE] == 'c'
end

-- What is below a job: a stack for `survey`; nil where something of it is open.
function Erase.below(job)
  local left = {}
  if not push_below(job, left) then return nil end
  return left
end

-- Deletes the head of a tree; its batches become graves, whose pieces are deleted in bites.
function Erase.head(job)
  local id, batch = job[BATCH], Rows.batch(job[BATCH])
  for _, grave in ipairs(Erase.job(job)) do put(Rows.sets.index, 'G' .. grave) end
  if batch and not batch[B.THEN] and batch[B.STATE] ~= 'open' and batch[B.TOTAL] == 0 then Erase.batch(id) end
end

-- Deletes pieces of a batch that was deleted: whether there are no more that can go.
local function dig(id, room)
  local members, n = beginning(K.index, 'b' .. id .. '\0', room), Erase.n
  for _, piece in ipairs(Erase.load(members)) do
    if Erase.weight >= HEAVY then return false end
    if is_over(piece) then -- else somebody has brought it back meanwhile
      for _, below in ipairs(Erase.job(piece)) do put(Rows.sets.index, 'G' .. below) end
    end
  end
  return #members < room or Erase.n == n
end

-- Deletes pieces of batches that were deleted, and all below them, as many as there is room for. Answers whether none is left.
function Erase.dig(room)
  Rows.write('index')
  local long = beginning(K.index, 'T', 1)[1]
  if long then
    if dig_trail(sub(long, 2)) then take_out(Rows.sets.index, long) end
    return false
  end
  while Erase.n < room and Erase.weight < HEAVY do
    Rows.write('index')
    local grave = beginning(K.index, 'G', 1)[1]
    if not grave then return true end
    if dig(sub(grave, 2), room - Erase.n) then take_out(Rows.sets.index, grave) end
  end
  return false
end
