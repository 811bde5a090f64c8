-- Taking due jobs for a worker.

local EXPIRED = 'it had not been begun by the time that it was given (expires)'

local Take = {}

-- Whether a worker of this session was reaped.
local function is_over(session, number)
  local ranges = session[9] or {}
  for k = 1, #ranges, 2 do
    if ranges[k] <= number and number <= ranges[k + 1] then return true end
  end
  return false
end

-- Refuses a worker that was reaped, or whose session is not enlisted or was buried.
function Take.check_session(worker)
  local id, number = string.match(worker, '^(.*)%.(.*)$')
  local raw = call('HGET', K.session, id or '')
  if not raw or is_over(unpack_all(raw), tonumber(number) or -1) then
    local why = ' is over, or its session is not enlisted or was declared dead; it gets no work'
    refuse('LeaseLost', 'worker ' .. worker .. why)
  end
end

-- Jobs whose moment has come in one of the sets that are ordered by it, a bite of them; and whether there are more.
local function due(name)
  local places = call('ZRANGEBYSCORE', K[name], '-inf', format('%.17g', NOW), 'LIMIT', 0, STOP_BITE)
  Rows.load(places)
  local jobs = {}
  for k, place in ipairs(places) do
    jobs[k] = Rows.job(place)
    Rows.scores[name][place] = false
  end
  return jobs, #places == STOP_BITE
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

-- The next members of all lines, in the order of fetching.
local function next_members(order, limit)
  local members = {}
  while #members < limit and #order > 0 do
    local best = table.remove(order)
    members[#members + 1] = best.read[best.next]
    best.next = best.next + 1
    sort_in(order, best)
  end
  return members
end

-- A function that gives the next members of these lines, so many. A line for itself needs no merging.
local function line_up(queues, limit)
  local all, order, after = readers(queues, limit), {}, nil
  if #all ~= 1 then
    for _, reader in ipairs(all) do sort_in(order, reader) end
    return function(n) return next_members(order, n) end
  end
  return function(n)
    local members = beginning(K.line, all[1].prefix, n, after)
    after = members[#members]
    return members
  end
end

-- One claim while it is answered: what it took, and how that is told.
local taking = { rows = {}, places = {} } -- rows: as they are told; of a job that was unpacked the job itself

-- Takes a job that has more to it; one whose batch has ended is cancelled instead.
local function take_with_care(place, claim)
  local job = Rows.job(place)
  if not job or job[STATE] ~= 'a' then return end
  if Fan.is_doomed(job) then return Fan.finish(job, 'x', nil, 'its batch has ended') end
  Moves.take(job, claim[1], claim[2])
  taking.rows[#taking.rows + 1], taking.places[#taking.places + 1] = job, place
end

-- Takes the jobs of these members of the line.
local function take_all(members, claim, begun)
  local places, rows, in_queue = {}, taking.rows, {}
  for k = 1, #members do places[k] = sub(members[k], -14) end
  local stored, front = values(K.job, places), claim[1] .. '\0' .. claim[2] .. '\0'
  local bytes, lines, runs = Rows.fields.job, Rows.removed.line, Rows.added.running
  for k = 1, #members do
    local place, row = places[k], stored[k]
    local begins = row and Quick.begin(row, begun)
    if begins then
      local n, queue = #rows, sub(members[k], 1, -38)
      rows[n + 1], taking.places[n + 1] = begins, place
      bytes[#bytes + 1] = place
      bytes[#bytes + 1] = begins
      lines[#lines + 1], runs[#runs + 1] = members[k], front .. place
      in_queue[queue] = (in_queue[queue] or 0) + 1
      Rows.by_place[place] = nil -- as it was
    else
      take_with_care(place, claim)
    end
  end
  for queue, n in pairs(in_queue) do Moves.count_taken(queue, n) end
end

-- Takes what is next, but looks at no more than a bite beyond. Says whether there is more to be looked at.
local function take(claim, queues)
  local limit, begun = claim[3], pack(claim[1], claim[2], NOW)
  local next_in_line, left = line_up(queues, limit), limit + STOP_BITE
  while #taking.rows < limit and left > 0 do
    local members = next_in_line(limit - #taking.rows)
    if #members == 0 then return false end
    take_all(members, claim, begun)
    left = left - #members
  end
  return #taking.rows == 0
end

-- ── the verb ────────────────────────────────────────────────────────────────────────────────────

-- The ranks of what this claim got before and still runs, in the order of then.
function Take.ranks_again(claim)
  local members = beginning(K.running, claim[1] .. '\0' .. claim[2] .. '\0')
  local places, ranks = {}, {}
  for k, member in ipairs(members) do places[k] = sub(member, -14) end
  Rows.load(places)
  for k, place in ipairs(places) do ranks[k] = Moves.rank(Rows.job(place)) end
  table.sort(ranks)
  return ranks
end

local function take_again(claim)
  for k, rank in ipairs(Take.ranks_again(claim)) do
    taking.places[k] = sub(rank, -14)
    taking.rows[k] = Rows.job(taking.places[k])
  end
end

-- The jobs as a worker gets them: of each its row, and what never changes; of an operation also that row and the globals.
local function told()
  local list, n, fixed = { '' }, 1, values(K.fixed, taking.places)
  for k, row in ipairs(taking.rows) do
    local plain = type(row) == 'string'
    list[n + 1], list[n + 2] = plain and row or Rows.written[row], fixed[k]
    n = n + 2
    if not plain and row[OPERATION] then
      local place = taking.places[k]
      list[n + 1], list[n + 2] = call('HGET', K.operation, place), call('HGET', K.globals, place) or '\144'
      n = n + 2
    end
  end
  return list
end

-- Takes jobs, and writes. `claim`: {worker, number, limit, queues or nil}. Answers whether something stood in the way, so
-- that the same claim is to be sent again; and a list of rows, its first place free.
function Take.all(claim)
  local more = false
  Rows.flush()
  take_again(claim)
  if #taking.rows == 0 and claim[3] > 0 then
    more = pass_time()
    Rows.flush()
    if not more then more = take(claim, claim[4] or call('HKEYS', K.lines)) end
    Rows.flush()
  end
  return more, told()
end

Take.pass_time = pass_time -- for heads.lua, which only looks
