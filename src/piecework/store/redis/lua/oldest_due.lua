#!lua flags=no-writes
-- Since when the oldest due job of each queue has been due, as far as one script may look: {{queue = moment, …}, where to go
-- on, or false}. In line the first of each priority is the oldest of it. What has not joined a line since its time came is
-- in the order of time, and of that only the oldest are looked at: the next fetch puts all of it in line.

local HOPS, OVERDUE = 500, 1000
local oldest, hops, behind = {}, 0, false

local function seen(queue, since)
  if not oldest[queue] or since < oldest[queue] then oldest[queue] = since end
end

local function overdue(key)
  local places = call('ZRANGEBYSCORE', key, '-inf', format('%.17g', NOW), 'LIMIT', 0, OVERDUE)
  Rows.load(places)
  for _, place in ipairs(places) do
    local job = Rows.job(place)
    seen(job[QUEUE], job[RUN_AT])
  end
end

return verb(function()
  if not ASKED.after then
    overdue(K.later)
    overdue(K.wake)
  end
  local from = ASKED.after and '(' .. ASKED.after .. '\255' or '-'
  while hops < HOPS do
    local member = call('ZRANGEBYLEX', K.line, from, '+', 'LIMIT', 0, 1)[1]
    if not member then return { oldest, false } end
    local queue = sub(member, 1, -38) -- behind it: a zero byte, the priority, the moment and the place
    seen(queue, Rows.job(sub(member, -14))[RUN_AT])
    behind = sub(member, 1, -29)
    from = '(' .. behind .. '\255' -- the next priority of this queue, or the next queue
    hops = hops + 1
  end
  return { oldest, behind }
end)
