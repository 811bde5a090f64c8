#!lua flags=no-writes
-- Small things that are kept, by their kind: a batch, a plan, the counters by queue and state, the queues that are paused.

local kept = {
  batch = function() return Rows.batch(ASKED.id) or false end,
  plan = function() return call('HGET', K.plan, 'p' .. ASKED.digest) end,
  counts = function() return call('HGETALL', K.count) end,
  paused = function() return call('SMEMBERS', K.paused) end,
}
return verb(kept[ASKED.kind])
