-- Bringing back what ended: one job, and what has to come back with it above and below.
--
-- A split of a million pieces comes back in bites, each a script of its own. Until the last one its batch is held open: it
-- is sealed as 'held', which does not let it end, and has a posting H.

local Revive = {
  room = 120, -- how many pieces this script may still bring back
  kinds = { 'f', 'x', 'p' }, -- which bad ends of pieces come back
  by = nil, reason = nil, word = 'retried', -- who does it, for the lines of operations
  held = {}, -- {batch, behind which piece to go on} …: what this script did not come to
}

local RETRIABLE = { f = true, x = true, p = true }

-- Reads what a call says: whether only what was cancelled comes back, and who does it.
function Revive.begin(asked)
  if asked.resume then Revive.kinds, Revive.word = { 'x' }, 'resumed' end
  Revive.by, Revive.reason = asked.by or nil, asked.reason
end

-- Whether a job in this state is one of those that come back.
function Revive.is_wanted(job)
  for _, kind in ipairs(Revive.kinds) do
    if job[STATE] == kind then return true end
  end
  return false
end

-- Another unfinished job carries its unique key.
local function taken(job)
  local carrier = Moves.carrier(job[KEY] or nil)
  return carrier ~= nil and carrier ~= Rows.place[job]
end

local function ended(job)
  return FINISHED_STATE[job[STATE]] or job[CRASHED] or false
end

-- What was released from a batch has come to no good end there.
local function stands_at(job, batch)
  return job ~= nil and RETRIABLE[job[STATE]] and job[BELOW] == batch
end

local function may_open_above(piece)
  if not piece[BATCH] then return true end
  local id, batch = piece[BATCH], Rows.batch(piece[BATCH])
  if not ended(piece) then -- parked; in a batch that has ended it would be cancelled before it started
    return batch == nil or batch[B.STATE] == 'open'
  end
  if not batch or batch[B.STATE] == 'done' then return false end -- what a compose has read does not change under it
  if batch[B.STATE] == 'open' then return true end
  local above = Rows.with_id(batch[B.THEN])
  if batch[B.ALWAYS] and not stands_at(above, id) then return false end -- it was released, and has gone on
  if not above or not RETRIABLE[above[STATE]] then return true end
  return not taken(above) and may_open_above(above)
end

function Revive.may_come_back(job)
  return not RETRIABLE[job[STATE]] or (not taken(job) and may_open_above(job))
end

-- Waiting, if it waits for a batch or a signal; but a splitter that did not come to its end splits again.
local function state_anew(job)
  local own = Fan.own(job)
  if not own or own[B.STATE] == 'done' then return Walk.lacks_signal(job) and 'w' or 'a' end
  return not own[B.SEALED] and job[RUN] > 0 and 'a' or 'w'
end

local function begin_anew(job)
  local state = state_anew(job)
  Deeds.note(job, Revive.word, Revive.by, Revive.reason)
  Rows.set_error(job, nil)
  job[REASON], job[STOPPING], job[STOPPED_BY], job[STOPPED_AT] = nil, nil, nil, nil
  Moves.to(job, state, {
    [RUN_AT] = state == 'a' and NOW or job[RUN_AT], [ATTEMPT] = 0, [CRASHES] = false, [FINISHED] = false,
    [EXPIRES] = false, [CRASHED] = false,
  })
  if state == 'w' then Walk.listen(job) end
end

local function reopen(id)
  Moves.set_batch(id, { [B.STATE] = 'open', [B.FINISHED] = false })
end

-- Opens the batch of a piece that begins anew; what was to follow waits again, and so on up to the root.
local function open_above(piece)
  local batch = ended(piece) and Rows.batch(piece[BATCH])
  if not batch or batch[B.STATE] == 'open' then return end
  local above = Rows.with_id(batch[B.THEN])
  if above and RETRIABLE[above[STATE]] then
    open_above(above)
    begin_anew(above)
  end
  reopen(piece[BATCH])
end

-- Pieces of a batch that ended badly, in their order, behind one: ordinal and place of each, and whether there are no more.
local function bad_ones(id, behind, limit)
  Rows.write('index')
  local found, over = {}, true
  for _, kind in ipairs(Revive.kinds) do
    local prefix = 'e' .. kind .. id .. '\0'
    local members = beginning(K.index, prefix, limit, behind and prefix .. behind or nil)
    for _, member in ipairs(members) do found[#found + 1] = sub(member, -22) end
    over = over and #members < limit
  end
  table.sort(found)
  for k = #found, limit + 1, -1 do
    found[k], over = nil, false
  end
  return found, over
end

local function hold(id, behind)
  if Rows.batch(id)[B.SEALED] == true then
    Moves.set_batch(id, { [B.SEALED] = 'held' })
    put(Rows.sets.index, 'H' .. id)
  end
  Revive.held[#Revive.held + 1] = { id, behind or false }
end

-- Lets a batch go its way.
function Revive.let_go(id)
  local batch = Rows.batch(id)
  if not batch then return end
  if batch[B.SEALED] == 'held' then
    Moves.set_batch(id, { [B.SEALED] = true })
    take_out(Rows.sets.index, 'H' .. id)
  end
  Fan.look_at(id)
end

local revive

-- The pieces that ended badly come back, as many as there is room for; behind the last of them the batch may end.
function Revive.below(id, behind)
  while Revive.room > 0 do
    local found, over = bad_ones(id, behind, Revive.room)
    local places = {}
    for k, member in ipairs(found) do places[k] = sub(member, -14) end
    Rows.load(places)
    for k, place in ipairs(places) do
      local piece = Rows.job(place)
      behind = found[k]
      Revive.room = Revive.room - 1
      if Revive.is_wanted(piece) and not taken(piece) then revive(piece) end
      if Revive.room <= 0 and k < #places then
        over = false
        break
      end
    end
    if over then return Revive.let_go(id) end
  end
  hold(id, behind)
end

-- The job begins anew, and so do the pieces below it that ended badly.
revive = function(job)
  begin_anew(job)
  if not Fan.is_dead(Fan.own(job)) then return end
  reopen(job[BELOW])
  Revive.below(job[BELOW], nil)
end

-- Brings one ended job back, and what has to come back with it; whether it could.
function Revive.job(job)
  if not RETRIABLE[job[STATE]] or not Revive.may_come_back(job) then return false end
  open_above(job)
  revive(job)
  return true
end
