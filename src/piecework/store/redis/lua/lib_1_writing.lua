-- Writing: what the other parts of the prelude changed in memory, in few commands.

local function write_rows(key, rows, changed)
  local list, n = {}, 0
  for field in pairs(changed) do
    list[n + 1], list[n + 2] = field, packed(rows[field])
    n = n + 2
  end
  in_bites('HSET', key, list, 2)
end

local function write_jobs()
  local list, n = {}, 0
  for job in pairs(Rows.changed) do
    local row = packed(job)
    list[n + 1], list[n + 2] = Rows.place[job], row
    Rows.written[job] = row
    n = n + 2
  end
  in_bites('HSET', K.job, list, 2)
end

-- Members with the score that all have. It is text: the server would print a number for each of them.
local function scored(members)
  local list = {}
  for k = 1, #members do list[2 * k - 1], list[2 * k] = '0', members[k] end
  return list
end

local function write_set(name)
  local added, removed = Rows.added[name], Rows.removed[name]
  for member, is_in in pairs(Rows.sets[name]) do
    local list = is_in and added or removed
    list[#list + 1] = member
  end
  in_bites('ZREM', K[name], removed, 1)
  in_bites('ZADD', K[name], scored(added), 2)
  Rows.sets[name], Rows.added[name], Rows.removed[name] = {}, {}, {}
end

local function write_scores(key, scores)
  local added, removed = {}, {}
  for place, score in pairs(scores) do
    if score then
      added[#added + 1] = format('%.17g', score)
      added[#added + 1] = place
    else
      removed[#removed + 1] = place
    end
  end
  in_bites('ZREM', key, removed, 1)
  in_bites('ZADD', key, added, 2)
end

local function write_hash(key, hash)
  local set, removed = {}, {}
  for field, value in pairs(hash) do
    if value then
      set[#set + 1] = field
      set[#set + 1] = value
    else
      removed[#removed + 1] = field
    end
  end
  in_bites('HDEL', key, removed, 1)
  in_bites('HSET', key, set, 2)
end

local function add_counts(key, counts)
  for field, n in pairs(counts) do
    if n ~= 0 and call('HINCRBY', key, field, n) == 0 then call('HDEL', key, field) end
  end
end

-- A plan that nobody walks any more goes.
local function add_walkers()
  for digest, n in pairs(Rows.walked) do
    if n ~= 0 and call('HINCRBY', K.plan, 'n' .. digest, n) == 0 then
      call('HDEL', K.plan, 'n' .. digest, 'p' .. digest)
    end
  end
end

-- Who sleeps is woken once, and has to lie down again to be woken again. A hint that this user may not give is no reason to
-- say that the verb failed: all of it is written by now, and sleepers look by themselves.
local function wake_sleepers()
  if call('ZCARD', K.sleepers) > 0 then
    call('DEL', K.sleepers)
    redis.pcall('PUBLISH', K.sleepers, '')
  end
end

-- Writes what is pending of one ordered set, for a script that goes on to read it.
function Rows.write(name)
  write_set(name)
end

-- Writes all that was changed. What was read stays known; the script may go on and flush again.
function Rows.flush()
  write_jobs()
  write_rows(K.batch, Rows.batches, Rows.changed_batches)
  write_rows(K.operation, Rows.operations, Rows.changed_operations)
  for name in pairs(Rows.sets) do write_set(name) end
  for name, list in pairs(Rows.fields) do in_bites('HSET', K[name], list, 2) end
  for _, range in ipairs(Rows.trims) do call('ZREMRANGEBYLEX', K.trail, range[1], range[2]) end
  for name, scores in pairs(Rows.scores) do write_scores(K[name], scores) end
  for name, hash in pairs(Rows.hashes) do write_hash(K[name], hash) end
  add_counts(K.count, Rows.counts)
  add_counts(K.lines, Rows.in_line)
  add_walkers()
  if Rows.woken then wake_sleepers() end
  Rows.forget_changes()
end

function Rows.forget_changes()
  Rows.changed, Rows.changed_batches, Rows.changed_operations = {}, {}, {}
  Rows.counts, Rows.in_line, Rows.walked, Rows.trims, Rows.woken = {}, {}, {}, {}, false
  for _, tables in ipairs({ Rows.scores, Rows.hashes, Rows.fields }) do
    for name in pairs(tables) do tables[name] = {} end
  end
end
