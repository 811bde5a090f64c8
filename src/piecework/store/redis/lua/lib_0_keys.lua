-- The prelude of every script: what a shard is made of, and how its rows are read and written.
--
-- A shard is everything under one hash tag. Its keys are these, always all of them and in this order (KEYS); no script
-- makes one up. Inside a shard a job is named by its PLACE: 14 hex digits that rise with every arrival (the server's time
-- in microseconds), so that the order of bytes is the order of arrival. Strings in a posting are ended by a zero byte;
-- places, ordinals (8 hex) and moments (14 hex, microseconds) have a fixed length.
--
--   meta       HASH  version, shards, last (the last place that was given away)
--   job        HASH  place -> row: packed array of what changes (see lib_1_rows)
--   fixed      HASH  place -> packed array of what never does, with the arguments: the end of a run does not touch it
--   text       HASH  texts too long for the row: r..place result, e..place error, s..place status
--   at         HASH  id -> place
--   line       ZSET  queue 0 priority run_at place: who is due, in the order of fetching
--   lines      HASH  queue -> how many of its jobs stand in line
--   later      ZSET  run_at: place      available, and not in line before a fetch after that moment
--   expiry     ZSET  expires_at: place  available, and to be cancelled at that moment
--   wake       ZSET  run_at: place      operations that wait for a signal, and not for ever
--   running    ZSET  worker 0 claim 0 place: who runs where
--   index      ZSET  postings by which jobs and batches are found:
--                s state queue 0 place    by state: w a c f x p; a running job stays in the list `a` of the available
--                t task 0 place           by task
--                r root 0 place           pieces of a tree, at any level
--                b batch 0 ordinal place  all pieces of a batch, in their order
--                e kind batch 0 ordinal place  those that ended badly; kind: f failed or crashed, x cancelled, p parked
--                c batch 0 place          those that wait
--                k key 0 place            every job with a unique key, also one that ended
--                o place                  operations
--                g term 0 place           operations with a global of this term
--                i identity 0 place       by identity
--                # tag 0 place            by tag
--                y identity 0 task 0 place  jobs of an identity that wait, are available or run; …
--                z identity 0 task 0 place  … and its others
--                v identity 0 task 0 moment place  those that said how they are, by when they did last
--                B then 0 batch           the batches below a job
--                A above 0 batch          open batches whose `then` is a piece of `above`
--                O batch                  open batches
--                D batch                  failed or stopped batches with an open piece
--                L moment batch           batches without a `then`, by when they ended
--                S call                   calls that came in bites, and are to be stored: see part_staged
--   count      HASH  state queue -> how many jobs; here a running job counts as `r`
--   unique     HASH  u..key -> place of the unfinished job with that key; o..key -> place of the operation that has it
--   batch      HASH  id -> packed row (see lib_1_rows)
--   offer      HASH  batch 0 piece key -> packed {place, run that offered it last, id as it was offered then}
--   operation  HASH  place -> packed row
--   globals    HASH  place -> packed array of {key, value, {term …}}, in the order in which they came
--   plan       HASH  p..digest -> the plan; n..digest -> how many operations walk it
--   trail      ZSET  what came to pass, in order; the body is packed at the end of the member:
--                h place run n body       a line of the history; run 8 hex, n 2 hex: the first, second … line of that run
--                v place cursor 0 run n   for operations: where to find the lines of a visit that are no ends of steps
--                u place name 0 moment body  a signal that nobody took: packed {id, payload, by, at}
--                t place moment body      a signal that was taken: packed {id, name, payload, by, at, taken_at}
--                i place id               the id of a signal, taken or not
--                d place moment body      a line of what was done by hand
--                j place id               the id of such a deed
--   session    HASH  id -> packed {beat, started_at, seen_at, name, host, pid, polled_at, whether it is being ended (mark.lua),
--                    the numbers of its workers that are over, as ranges: first, last, first, last, … (reap.lua)}
--   paused     SET   queues
--   sleepers   ZSET  who waits for a hint, by when they stop waiting; its name is also the channel of hints
--
-- ARGV[1] is the moment by the clock that the store was given, or empty: then the server's time counts.
-- ARGV[2] is what the verb is told, packed. Nothing is written before `Rows.flush()`: a script that finds out that it has
-- to refuse calls `refuse(kind, text)`, and nothing has happened.

local call, pack, unpack_one, unpack_all = redis.call, cmsgpack.pack, cmsgpack.unpack_one, cmsgpack.unpack
local floor, format, sub, concat, min, max = math.floor, string.format, string.sub, table.concat, math.min, math.max

local K = {
  meta = KEYS[1], job = KEYS[2], fixed = KEYS[3], text = KEYS[4], at = KEYS[5], line = KEYS[6], lines = KEYS[7],
  later = KEYS[8], expiry = KEYS[9], wake = KEYS[10], running = KEYS[11], index = KEYS[12], count = KEYS[13],
  unique = KEYS[14], batch = KEYS[15], offer = KEYS[16], operation = KEYS[17], globals = KEYS[18], plan = KEYS[19],
  trail = KEYS[20], session = KEYS[21], paused = KEYS[22], sleepers = KEYS[23],
}

local BITE = 1000 -- rows that one command reads or writes
local STOP_BITE = 250 -- rows that one script takes away beside what it is for

local function server_micros()
  local time = call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local NOW = ARGV[1] ~= '' and tonumber(ARGV[1]) or server_micros() / 1000000
local ASKED = ARGV[2] and ARGV[2] ~= '' and unpack_all(ARGV[2]) or {}

-- The k-th of what is told behind all else: what only the script can read.
local told_beside = function(k) return ARGV[k + 2] end

-- A moment in seconds as bytes whose order is that of time.
local function moment(seconds)
  return format('%014x', min(max(floor(seconds * 1000000 + 0.5), 0), 9007199254740991))
end

-- Ends the script with an answer of its own: {'refused', kind, text}. Nothing was written.
local function refuse(kind, text)
  error({ refused = { 'refused', kind, text } })
end

-- Runs the verb: `body` returns the answer, and perhaps a list whose first place is free: rows that are sent as they are
-- stored. What the script returns is the packed {'ok', answer}, or what was refused; with a list, that in its first place.
local function verb(body)
  local good, answer, list = pcall(body)
  if good and list then list[1] = pack({ 'ok', answer or false }) end
  if good then return list or pack({ 'ok', answer or false }) end
  if type(answer) == 'table' and answer.refused then return pack(answer.refused) end
  return type(answer) == 'table' and answer or redis.error_reply(tostring(answer))
end

-- Calls a command with many arguments in bites; `list` is flat, `step` arguments belong together.
local function in_bites(command, key, list, step)
  local n, size = #list, BITE * step
  if n == 0 then return end
  if n <= size then return call(command, key, unpack(list)) end
  for first = 1, n, size do call(command, key, unpack(list, first, min(first + size - 1, n))) end
end

-- The values of many fields of a hash, in their order; false where there is none.
local function values(key, fields)
  local n = #fields
  if n == 0 then return {} end
  if n <= BITE then return call('HMGET', key, unpack(fields)) end
  local found = {}
  for first = 1, n, BITE do
    local some = call('HMGET', key, unpack(fields, first, min(first + BITE - 1, n)))
    for k = 1, #some do found[first + k - 1] = some[k] end
  end
  return found
end

-- Members of an ordered set that begin with `prefix`, up to `limit`, behind the member `after` (exclusive).
local function beginning(key, prefix, limit, after)
  local from = after and '(' .. after or '[' .. prefix
  return call('ZRANGEBYLEX', key, from, '(' .. prefix .. '\255', 'LIMIT', 0, limit or -1)
end
