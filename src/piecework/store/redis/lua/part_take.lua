-- Taking due jobs for a worker.

local EXPIRED = 'it had not been begun by the time that it was given (expires)'

local Take = {}

-- Refuses a worker whose session is not enlisted, or was buried.
function Take.check_session(worker)
  local session = string.match(worker, '^(.*)%.') or ''
  if call('HEXISTS', K.session, session) == 0 then
    refuse('LeaseLost', 'session ' .. session .. ' is not enlisted, or was declared dead; it gets no work')
  end
end

-- Jobs whose moment has come in one of the sets that are ordered by it, a bite of them; and whether there are more.
local function due(name)
  local places = call('ZRANGEBYSCORE', K[name], '-inf', format('%.17g', NOW), 'LIMIT', 0, BITE)
  Rows.load(places)
  local jobs = {}
  for k, place in ipairs(places) do
    jobs[k] = Rows.job(place)
    Rows.scores[name][place] = false
  end
  return jobs, #places == BITE
end

-- What time has brought: some join the line, some have waited long enough, some are too late. Says whether there is more.
local function pass_time()
  local ripe, more_ripe = due('later')
  for _, job in ipairs(ripe) do Moves.ripen(job) end
  local woken, more_woken = due('wake')
  for _, job in ipairs(woken) do
    if Walk.awaited(job) then Moves.to(job, 'a') end
  end
  local expired, more_expired = due('expiry')
  for _, job in ipairs(expired) do
    if job[STATE] == 'a' then Fan.finish(job, 'x', nil, EXPIRED) end
  end
  return more_ripe or more_woken or more_expired
end

-- ── the lines ───────────────────────────────────────────────────────────────────────────────────

-- One reader for each line that is asked for: what it has read ahead, and where it is.
local function readers(queues, limit)
  local found = {}
  local chunk = #queues == 1 and limit or min(limit, floor(limit / max(#queues, 1)) + 10)
  for _, queue in ipairs(queues) do
    if call('SISMEMBER', K.paused, queue) == 0 then
      found[#found + 1] = { prefix = queue .. '\0', chunk = chunk, read = {}, next = 1 }
    end
  end
  return found
end

-- The rank of the next job in a line, or nil at its end.
local function head(reader)
  if reader.next > #reader.read then
    if reader.over then return nil end
    reader.read = beginning(K.line, reader.prefix, reader.chunk, reader.read[#reader.read])
    reader.next, reader.over = 1, #reader.read < reader.chunk
    if #reader.read == 0 then return nil end
  end
  return sub(reader.read[reader.next], #reader.prefix + 1)
end

-- Puts a reader among the others by its head, the best at the end.
local function sort_in(order, reader)
  local rank = head(reader)
  if not rank then return end
  reader.rank = rank
  local k = #order
  while k > 0 and order[k].rank < rank do k = k - 1 end
  table.insert(order, k + 1, reader)
end

-- The places of the next jobs of all lines, in the order of fetching.
local function next_places(order, limit)
  local places = {}
  while #places < limit and #order > 0 do
    local best = table.remove(order)
    places[#places + 1] = sub(best.rank, -14)
    best.next = best.next + 1
    sort_in(order, best)
  end
  return places
end

-- A line for itself needs no merging.
local function places_in_line(reader, limit)
  local places = {}
  while #places < limit do
    local rank = head(reader)
    if not rank then break end
    places[#places + 1] = sub(rank, -14)
    reader.next = reader.next + 1
  end
  return places
end

local function line_up(queues, limit)
  local all, order = readers(queues, limit), {}
  if #all == 1 then return function(n) return places_in_line(all[1], n) end end
  for _, reader in ipairs(all) do sort_in(order, reader) end
  return function(n) return next_places(order, n) end
end

-- Takes what is next; pieces of a batch that has ended are cancelled instead, a bite of them. Says whether there are more.
local function take(claim, queues)
  local worker, number, limit = claim[1], claim[2], claim[3]
  local next_in_line, taken, cancelled = line_up(queues, limit), {}, 0
  while #taken < limit and cancelled < BITE do
    local places = next_in_line(limit - #taken)
    if #places == 0 then return taken, false end
    Rows.load(places)
    for _, place in ipairs(places) do
      local job = Rows.job(place)
      if job[STATE] == 'a' and Fan.is_doomed(job) then
        Fan.finish(job, 'x', nil, 'its batch has ended')
        cancelled = cancelled + 1
      elseif job[STATE] == 'a' then
        Moves.take(job, worker, number)
        taken[#taken + 1] = job
      end
    end
  end
  return taken, #taken == 0 and cancelled >= BITE
end

-- ── the verb ────────────────────────────────────────────────────────────────────────────────────

-- What this claim got before and still runs, in the order of then.
local function taken_before(claim)
  local members = beginning(K.running, claim[1] .. '\0' .. claim[2] .. '\0')
  local places, ranks, jobs = {}, {}, {}
  for k, member in ipairs(members) do places[k] = sub(member, -14) end
  Rows.load(places)
  for k, place in ipairs(places) do ranks[k] = Moves.rank(Rows.job(place)) end
  table.sort(ranks)
  for k, rank in ipairs(ranks) do jobs[k] = Rows.job(sub(rank, -14)) end
  return jobs
end

-- Adds a job as a worker gets it: its row, and what never changes of it; of an operation also that row and the globals.
local function tell(list, job)
  local n, place = #list, Rows.place[job]
  list[n + 1], list[n + 2] = Rows.written[job], Rows.fixed_row(job)
  if job[OPERATION] then
    list[n + 3], list[n + 4] = call('HGET', K.operation, place), call('HGET', K.globals, place) or '\144'
  end
end

-- Takes jobs, and writes. `claim`: {worker, number, limit, queues or nil}. Answers whether something stood in the way, so
-- that the same claim is to be sent again; and a list of rows, its first place free.
Take.pass_time = pass_time

function Take.all(claim)
  Rows.flush()
  local jobs, more = taken_before(claim), false
  if #jobs == 0 and claim[3] > 0 then
    more = pass_time()
    Rows.flush()
    if not more then jobs, more = take(claim, claim[4] or call('HKEYS', K.lines)) end
    Rows.flush()
  end
  Rows.load_fixed(jobs)
  local list = { '' }
  for _, job in ipairs(jobs) do tell(list, job) end
  return more, list
end
