-- What is done to operations by hand: a line for each deed, in the order in which they were done.

local Deeds = {}

local made = {} -- place -> how many lines this script has added

-- Keeps a line: {id, what, by, reason, cursor, changes as JSON}.
function Deeds.keep(job, deed)
  local place = Rows.place[job]
  local body = pack({
    deed.id, job[RUN], deed.what, deed.by, deed.reason or '', NOW, job[CURSOR] or false, deed.cursor or false,
    deed.changes or false,
  })
  put(Rows.sets.trail, 'd' .. place .. Moves.next_place() .. body)
  put(Rows.sets.trail, 'j' .. place .. deed.id)
  made[place] = (made[place] or 0) + 1
end

function Deeds.is_known(job, id)
  return call('ZSCORE', K.trail, 'j' .. Rows.place[job] .. id) and true or false
end

-- The line of an operation to which something is done now, where somebody does it. Other jobs keep none.
function Deeds.note(job, what, by, reason)
  if not by or not job[OPERATION] then return end
  local prefix = 'd' .. Rows.place[job]
  local n = call('ZLEXCOUNT', K.trail, '[' .. prefix, '(' .. prefix .. '\255') + (made[Rows.place[job]] or 0)
  Deeds.keep(job, { id = what .. '/' .. job[RUN] .. '/' .. n, what = what, by = by, reason = reason })
end
