-- Searching: the jobs that match, in the order of their arrival, with a bounded number of looks in one script.
--
-- A search is led by the shortest list of postings that holds all that match, and looks at the rows of that. It says where
-- it stopped, and goes on there in the next script: no list is ever read to its end at once.
--
-- What is asked for is told as `which`: queue, task, state (a letter), batch, root, key, worker, operations, terms, identity,
-- tags, moments from and before which jobs were created or have ended, and ids or their places; a verb adds the `states` that it can do something about. `after` is the place behind which to begin.

local LOOKS = 500 -- rows that one script looks at
local PAGE = 250 -- postings that are read at once
local SLICE = 25 -- rows of any size that are read at once
local WEIGHT = 1048576 -- bytes of rows that one script answers with, and a row more
local FEW = 2000 -- places that are sorted in a script, where a list is in another order

local LISTED = { 'w', 'a', 'c', 'f', 'x', 'p' } -- states with lists of their own; who runs is in `a`

local Search = {}

-- The root of a piece's tree, which is its batch where nothing else was said; nil of other jobs.
function Search.root(job)
  return Rows.fixed(job)[F.ROOT] or job[BATCH] or nil
end

-- ── lists of postings ───────────────────────────────────────────────────────────────────────────

local function posted(prefix)
  return call('ZLEXCOUNT', K.index, '[' .. prefix, '(' .. prefix .. '\255')
end

-- Places at the ends of the members that begin with `prefix`, in their order or the reverse, behind `after`.
local function places_of(prefix, after, newest, limit)
  local low, high = '[' .. prefix, '(' .. prefix .. '\255'
  local members
  if newest then
    if after then high = '(' .. prefix .. after end
    members = call('ZREVRANGEBYLEX', K.index, high, low, 'LIMIT', 0, limit)
  else
    if after then low = '(' .. prefix .. after end
    members = call('ZRANGEBYLEX', K.index, low, high, 'LIMIT', 0, limit)
  end
  for k = 1, #members do members[k] = sub(members[k], -14) end
  return members
end

local function by_arrival(newest)
  if newest then return function(a, b) return a > b end end
  return function(a, b) return a < b end
end

-- The next `limit` places of several lists as one, and whether there are no more.
local function merged(prefixes, after, newest, limit)
  if #prefixes == 1 then
    local places = places_of(prefixes[1], after, newest, limit)
    return places, #places < limit
  end
  local each = max(4, floor(2 * limit / #prefixes))
  local before = by_arrival(newest)
  local found, horizon = {}, nil -- behind the horizon, a list may have more that was not read
  for _, prefix in ipairs(prefixes) do
    local places = places_of(prefix, after, newest, each)
    for _, place in ipairs(places) do found[#found + 1] = place end
    local last = places[each]
    if last and (not horizon or before(last, horizon)) then horizon = last end
  end
  table.sort(found, before)
  local n = 0
  while n < min(#found, limit) and not (horizon and before(horizon, found[n + 1])) do n = n + 1 end
  local over = not horizon and n == #found
  for k = #found, n + 1, -1 do found[k] = nil end
  return found, over
end

-- ── what leads a search ─────────────────────────────────────────────────────────────────────────

local function running_places(worker)
  local members = worker and beginning(K.running, worker .. '\0') or call('ZRANGE', K.running, 0, -1)
  for k = 1, #members do members[k] = sub(members[k], -14) end
  return members
end

-- The lists of some states in all queues, and how many jobs are in them.
local function in_all_queues(states)
  local prefixes, n, wanted, known = {}, 0, {}, {}
  for _, state in ipairs(states) do wanted[state] = true end
  local counts = call('HGETALL', K.count)
  for k = 1, #counts, 2 do
    local letter, queue = LIST[sub(counts[k], 1, 1)], sub(counts[k], 2)
    if wanted[letter] then
      local prefix = 's' .. letter .. queue .. '\0'
      if not known[prefix] then prefixes[#prefixes + 1] = prefix end
      known[prefix] = true
      n = n + tonumber(counts[k + 1])
    end
  end
  return prefixes, n
end

-- The lists by queue and state: the only ones in which every job is.
local function by_state(which)
  local states = which.state and { LIST[which.state] } or which.states or LISTED
  if not which.queue then return in_all_queues(states) end
  local prefixes, n = {}, 0
  for _, state in ipairs(states) do
    prefixes[#prefixes + 1] = 's' .. state .. which.queue .. '\0'
    n = n + posted(prefixes[#prefixes])
  end
  return prefixes, n
end

local BADLY = { f = { 'ef' }, x = { 'ex' }, p = { 'ep', 'ef' } } -- lists of pieces by batch; who was parked for crashing is in `ef`

-- A batch's postings are in the order of its pieces: places to be sorted, where they are few.
local function few_of_batch(which)
  local lists, n, places = BADLY[which.state] or { 'b' }, 0, {}
  for _, list in ipairs(lists) do n = n + posted(list .. which.batch .. '\0') end
  if n > FEW then return nil end
  for _, list in ipairs(lists) do
    for _, place in ipairs(places_of(list .. which.batch .. '\0', nil, false, FEW)) do places[#places + 1] = place end
  end
  return places
end

-- The list of a batch's tree, for one that is not small.
local function tree_of(batch)
  local first = Rows.job(places_of('b' .. batch .. '\0', nil, false, 1)[1])
  return 'r' .. Search.root(first) .. '\0'
end

-- The lists of what a job is known by outside.
local function labels(which)
  local found = {}
  if which.identity then found[1] = 'i' .. which.identity .. '\0' end
  for _, tag in ipairs(which.tags or {}) do found[#found + 1] = '#' .. tag .. '\0' end
  return found
end

-- Lists in the order of arrival, in each of which all that match must be.
local function narrow(which)
  local found = {}
  if which.batch and which.state == 'w' then found[1] = 'c' .. which.batch .. '\0' end
  if which.batch and not found[1] then found[1] = tree_of(which.batch) end
  if which.key then found[#found + 1] = 'k' .. which.key .. '\0' end
  for _, term in ipairs(which.terms or {}) do found[#found + 1] = 'g' .. term .. '\0' end
  for _, label in ipairs(labels(which)) do found[#found + 1] = label end
  if which.root then found[#found + 1] = 'r' .. which.root .. '\0' end
  if which.task then found[#found + 1] = 't' .. which.task .. '\0' end
  if which.operations or which.terms then found[#found + 1] = 'o' end
  return found
end

-- What leads: `given` places, to be sorted, or the prefixes of lists.
local function lead(which)
  if which.places then return { given = which.places } end
  if which.ids then
    Rows.look_up(which.ids)
    local places, known = {}, {}
    for _, id in ipairs(which.ids) do
      local place = Rows.place_of(id)
      if place and not known[place] then places[#places + 1] = place end
      if place then known[place] = true end
    end
    return { given = places }
  end
  if which.state == 'r' then return { given = running_places(which.worker) } end
  local few = which.batch and few_of_batch(which)
  if few then return { given = few } end
  local best, fewest = nil, nil
  for _, prefix in ipairs(narrow(which)) do
    local n = posted(prefix)
    if not fewest or n < fewest then best, fewest = { prefix }, n end
  end
  if not fewest or (fewest > PAGE and (which.queue or which.state or which.states)) then
    local prefixes, n = by_state(which)
    if not fewest or n < fewest then best = prefixes end
  end
  return { prefixes = best }
end

local function sorted_behind(places, after, newest)
  local before, left = by_arrival(newest), {}
  for _, place in ipairs(places) do
    if not after or before(after, place) then left[#left + 1] = place end
  end
  table.sort(left, before)
  return left
end

-- ── whether a job matches ───────────────────────────────────────────────────────────────────────

local FIELDS = { state = STATE, queue = QUEUE, batch = BATCH, key = KEY, worker = WORKER }

-- What is asked of a row, and of which lists of postings a job has to be in: what never changes of it may be long, and is
-- not read for that.
local function conditions(which)
  local asked, lists = {}, labels(which)
  for name, field in pairs(FIELDS) do
    if which[name] then asked[#asked + 1] = { field, which[name] } end
  end
  if which.task then lists[#lists + 1] = 't' .. which.task .. '\0' end
  if which.root then lists[#lists + 1] = 'r' .. which.root .. '\0' end
  for _, term in ipairs(which.terms or {}) do lists[#lists + 1] = 'g' .. term .. '\0' end
  return asked, lists
end

-- What is asked of the moments of a row: {field, from, before}; one that is not set is in no time.
local function spans(which)
  local found = {}
  if which.created_from or which.created_before then
    found[1] = { CREATED, which.created_from or -math.huge, which.created_before or math.huge }
  end
  if which.finished_from or which.finished_before then
    found[#found + 1] = { FINISHED, which.finished_from or -math.huge, which.finished_before or math.huge }
  end
  return found
end

local function in_time(job, times)
  for k = 1, #times do
    local at = job[times[k][1]]
    if not at or at < times[k][2] or at >= times[k][3] then return false end
  end
  return true
end

-- A function that says whether a job matches. That it is in the list that led to it need not be asked again.
local function matcher(which, led)
  local asked, lists = conditions(which)
  local times = spans(which)
  local operations = which.operations
  if which.terms and operations == nil then operations = true end
  return function(job)
    for k = 1, #asked do
      if job[asked[k][1]] ~= asked[k][2] then return false end
    end
    if operations ~= nil and operations ~= (job[OPERATION] and true or false) then return false end
    if not in_time(job, times) then return false end
    for k = 1, #lists do
      if lists[k] ~= led and not call('ZSCORE', K.index, lists[k] .. Rows.place[job]) then return false end
    end
    return true
  end
end

-- ── walking ─────────────────────────────────────────────────────────────────────────────────────

-- A place in front of all jobs that were created at a moment or later, which is behind those that came before: a place is the
-- time of the server at which a job came, or later. Nil where nothing is asked of that, or time is that of another clock.
local function place_before(which)
  if ARGV[1] ~= '' or not which.created_from then return nil end
  return moment(which.created_from - 0.001) -- well in front of it, however it is rounded
end

-- Reads the next places of a search: a function that gives some, and whether they are the last; and the one list that
-- leads, where it is one.
local function reader(which, after, newest)
  local led = lead(which)
  if not led.given then
    local one = #led.prefixes == 1 and led.prefixes[1] or nil
    return function(from, limit) return merged(led.prefixes, from or after, newest, limit) end, one
  end
  local places, at = sorted_behind(led.given, after, newest), 0
  return function(_, limit)
    local some = {}
    for k = 1, min(limit, #places - at) do some[k] = places[at + k] end
    at = at + #some
    return some, at == #places
  end
end

-- Calls `take(job)` for each job that matches, in order, until that says that it is enough, or there are no more, or the
-- script has looked at as much as it may. Answers at which place it stopped, and whether there are no more. It begins with
-- `page` rows, and looks at more at once as it goes on.
function Search.walk(which, after, newest, page, take)
  local first = place_before(which)
  if first and not newest and (not after or after < first) then after = first end
  local next_places, led = reader(which, after, newest)
  local matches = matcher(which, led)
  local looks, at = 0, nil
  page = min(max(page, 10), PAGE)
  while true do
    local places, over = next_places(at, min(page, LOOKS - looks))
    Rows.load(places)
    for _, place in ipairs(places) do
      local job = Rows.job(place)
      at = place
      if job and matches(job) and take(job) then return at, false end
    end
    looks, page = looks + #places, min(2 * page, PAGE)
    if over or (first and newest and at and at < first) then return at, true end
    if looks >= LOOKS then return at, false end
  end
end

-- The first `limit` jobs that match and that `wanted(job)` accepts, where the search stopped, and whether there are no more.
function Search.first(which, after, limit, wanted)
  local found = {}
  if limit <= 0 then return found, after, true end
  local at, over = Search.walk(which, after, false, limit, function(job)
    if not wanted or wanted(job) then found[#found + 1] = job end
    return #found >= limit
  end)
  return found, at, over
end

-- How many match, where one list says it; else nil.
function Search.known(which)
  local asked = {}
  for name in pairs(which) do asked[#asked + 1] = name end
  if #asked ~= 1 then return nil end
  if which.batch then return posted('b' .. which.batch .. '\0') end
  if (which.terms and #which.terms ~= 1) or (which.tags and #which.tags ~= 1) then return nil end
  local list = narrow(which)[1]
  return list and posted(list)
end

-- ── answers ─────────────────────────────────────────────────────────────────────────────────────

-- Adds jobs to an answer, until that is heavy: of each its place, its row with its long texts in it, and what never changes.
-- Answers how many it added.
function Search.tell(answer, jobs)
  local weight = 0
  for k, job in ipairs(jobs) do
    if k % SLICE == 1 then Rows.load_fixed({ unpack(jobs, k, min(k + SLICE - 1, #jobs)) }) end
    local row, fixed, n = Rows.told(job), Rows.fixed_row(job), #answer
    answer[n + 1], answer[n + 2], answer[n + 3] = Rows.place[job], row, fixed
    weight = weight + #row + #fixed
    if weight >= WEIGHT then return k end
  end
  return #jobs
end
