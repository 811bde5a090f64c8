-- Lines about runs, a bounded number for each job.

local FIRST_RUNS, LAST_RUNS = 10, 100
local STEPS = { completed = true, undone = true } -- lines that are kept for ever: by them an operation is understood

local History = {}

local function lines_of_run(place, run)
  return beginning(K.trail, 'h' .. place .. format('%08x', run))
end

-- Lines that this script keeps and has not written: place and run -> outcomes.
local kept = {}

-- How many lines of this run there are; nil where one of this outcome is among them.
local function number_of(place, run, outcome)
  local at, n = place .. run, 0
  if not kept[at] then
    kept[at] = {}
    for _, member in ipairs(lines_of_run(place, run)) do
      kept[at][#kept[at] + 1] = unpack_all(sub(member, 26))[2]
    end
  end
  for _, other in ipairs(kept[at]) do
    if other == outcome then return nil end
    n = n + 1
  end
  kept[at][n + 1] = outcome
  return n
end

-- Of a job that comes back for ever the first runs are kept and the last ones.
local function trim_runs(place, run)
  if run - LAST_RUNS > FIRST_RUNS then
    local from, to = format('%08x', FIRST_RUNS + 1), format('%08x', run - LAST_RUNS)
    table.insert(Rows.trims, { '[h' .. place .. from, '(h' .. place .. to .. '\255' })
  end
end

-- Of a visit of a step the first lines are kept and the last ones.
local function trim_visit(place, cursor, tail)
  local prefix = 'v' .. place .. cursor .. '\0'
  put(Rows.sets.trail, prefix .. tail)
  local n = call('ZLEXCOUNT', K.trail, '[' .. prefix, '(' .. prefix .. '\255')
  for _, member in ipairs(n < FIRST_RUNS + LAST_RUNS and {} or
      call('ZRANGEBYLEX', K.trail, '[' .. prefix, '(' .. prefix .. '\255', 'LIMIT', FIRST_RUNS, n - FIRST_RUNS - LAST_RUNS + 1)) do
    take_out(Rows.sets.trail, member)
    local line = 'h' .. place .. sub(member, #prefix + 1)
    for _, body in ipairs(beginning(K.trail, line)) do take_out(Rows.sets.trail, body) end
  end
end

-- Keeps a line of the run that this row shows. `more`: {at = where it was, changes = JSON, route = JSON}.
function History.remember(job, outcome, attempt, error, reason, more)
  local place, run = Rows.place[job], job[RUN]
  local n = number_of(place, run, outcome)
  if not n then return end
  more = more or {}
  local cursor = more.at or job[CURSOR] or false
  local tail = format('%08x%02x', run, n)
  local body = pack({
    attempt, outcome, job[STARTED] or false, NOW, job[WORKER] or false, error or false, reason or false, cursor,
    more.changes or false, more.route or false,
  })
  put(Rows.sets.trail, 'h' .. place .. tail .. body)
  if not job[OPERATION] then
    trim_runs(place, run)
  elseif not STEPS[outcome] then
    trim_visit(place, cursor or '', tail)
  end
end

-- Keeps the first line of the run that this row shows: that has ended just now, so there is none to be looked for.
function History.remember_first(job, ...)
  local at = Rows.place[job] .. job[RUN]
  kept[at] = kept[at] or {}
  History.remember(job, ...)
end
