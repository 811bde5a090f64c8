-- Distributed jobs. Their keys stand behind those of the shard; what follows is decided by the client, and written here where
-- the job is still as the client has read it.
--
--   KEYS[24]  HASH  token -> place revision row: the place of its arrival (14 hex), 8 hex that rise, the row as JSON
--                   0 call 0 token -> place revision: a job that this call deleted, until its parts are cleared
--   KEYS[25]  HASH  place 0 name -> number (8 hex), the part as JSON
--   KEYS[26]  ZSET  postings: j place token; and of parts by their state, a for all of them, o, d, f: a place number name
--   KEYS[27]  ZSET  place token, by when it is past its time
--
-- A change: {token, head, row, expires, added, changed, first, begins, mark}. `head` is place and revision as they were read, empty where there
-- was none; `row` is the new one, or false where it goes. `added`: {{name, JSON} …}; `changed`: {{name, number, JSON, from,
-- to} …} with the letters of the states. `first`: the number of the first one that is added; `begins`: nobody has the token;
-- `mark`: {field, seconds} of what stays of a job that goes, or false.
local Parts = { job = KEYS[24], part = KEYS[25], line = KEYS[26], over = KEYS[27] }

local SLICE = 25 -- rows of any size that are read at once
local WEIGHT = 1048576 -- bytes of rows that one script answers with, and a slice more

-- The values of fields of a hash, in their order, until they are heavy; false where there is none.
function Parts.rows(key, fields)
  local found, weight = {}, 0
  for first = 1, #fields, SLICE do
    for _, row in ipairs(call('HMGET', key, unpack(fields, first, min(first + SLICE - 1, #fields)))) do
      found[#found + 1] = row
      weight = weight + (row and #row or 0)
    end
    if weight >= WEIGHT then break end
  end
  return found
end

function Parts.head(token)
  local held = call('HGET', Parts.job, token)
  return held and sub(held, 1, 22) or ''
end

-- The place of a job as it is to be: a new one has a new place, and one whose time is over leaves its old one to be cleared.
local function place_of(token, head, begins)
  if head ~= '' and not begins then return sub(head, 1, 14) end
  if head ~= '' then call('ZREM', Parts.line, 'j' .. sub(head, 1, 14) .. token) end
  local place = Moves.next_place()
  Moves.keep_last_place()
  call('ZADD', Parts.line, 0, 'j' .. place .. token)
  return place
end

local function add_parts(place, first, added)
  local rows, postings = {}, {}
  for k, part in ipairs(added) do
    local number = format('%08x', first + k - 1)
    rows[2 * k - 1], rows[2 * k] = place .. '\0' .. part[1], number .. part[2]
    for _, kind in ipairs({ 'a', 'o' }) do
      postings[#postings + 1] = 0
      postings[#postings + 1] = kind .. place .. number .. part[1]
    end
  end
  in_bites('HSET', Parts.part, rows, 2)
  in_bites('ZADD', Parts.line, postings, 2)
end

local function change_parts(place, changed)
  for _, part in ipairs(changed) do
    local name, number, json, from, to = part[1], part[2], part[3], part[4], part[5]
    call('HSET', Parts.part, place .. '\0' .. name, number .. json)
    call('ZREM', Parts.line, from .. place .. number .. name)
    call('ZADD', Parts.line, 0, to .. place .. number .. name)
  end
end

function Parts.write(change)
  local token, head, row, expires, first = change[1], change[2], change[3], change[4], change[7]
  local place = place_of(token, head, change[8])
  local revision = head == '' and 0 or tonumber(sub(head, 15, 22), 16) + 1
  if row then
    call('HSET', Parts.job, token, place .. format('%08x', revision) .. row)
    call('ZREM', Parts.over, place .. token)
    if expires then call('ZADD', Parts.over, expires, place .. token) end
  else
    call('HDEL', Parts.job, token)
    call('ZREM', Parts.line, 'j' .. place .. token)
    local mark, kept = token, 0
    if change[9] then
      mark, kept = change[9][1], change[9][2]
      call('HSET', Parts.job, mark, place .. '00000000')
    end
    call('ZADD', Parts.over, NOW + kept, place .. mark)
  end
  add_parts(place, first, change[5])
  change_parts(place, change[6])
end

-- The verb that follows looks first whether the job is as it was read, and writes the change behind what it writes itself.
local plain_verb = verb
verb = function(body)
  return plain_verb(function()
    local change = ASKED[5]
    if not change then return body() end
    if Parts.head(change[1]) ~= change[2] then refuse('Moved', change[1]) end
    local answer, list = body()
    Parts.write(change)
    return answer, list
  end)
end
