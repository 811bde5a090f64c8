#!lua flags=allow-oom
-- with: erase
-- Deletes what is past its keep, in one list of jobs by queue and state: {how many were deleted, how many stay, where it
-- stopped, whether behind that come none or a page of those that are too young}.

local LOOKED, DELETED = 1000, 400
local SLICE = 32 -- jobs whose arguments are read together, once a few have shown that these are not large
local before = ASKED.before

local function past(job)
  return (job[STATE] == 'c' or job[STATE] == 'x') and job[FINISHED] and job[FINISHED] < before
end

local function gone(id)
  local job = Rows.with_id(id)
  return not job or past(job)
end

-- A piece stays while its batch is open, and as long as the continuation and the root of its tree do.
local function may_go(job)
  if not past(job) then return false end
  if not gone(Rows.fixed(job)[F.ROOT] or job[BATCH]) then return false end
  local batch = Rows.batch(job[BATCH])
  return not batch or (batch[B.STATE] ~= 'open' and gone(batch[B.THEN]))
end

-- Reads all at once what never changes of those that will most likely go.
local function load_past(jobs)
  local wanted = {}
  for _, job in ipairs(jobs) do
    if past(job) then wanted[#wanted + 1] = job end
  end
  Rows.load_fixed(wanted)
end

return verb(function()
  local prefix = 's' .. ASKED.state .. ASKED.queue .. '\0'
  local members = beginning(K.index, prefix, LOOKED, ASKED.after and prefix .. ASKED.after or nil)
  local young, kept, at, room = 0, 0, ASKED.after, min(DELETED, ASKED.limit)
  local first, slice = 1, 4
  while first <= #members and Erase.n < room and Erase.weight < HEAVY do
    slice = min(2 * slice, SLICE)
    local last = min(#members, first + min(slice, room - Erase.n) - 1)
    local places = {}
    for k = first, last do places[k - first + 1] = members[k] end
    local jobs = Erase.load(places)
    load_past(jobs)
    for k, job in ipairs(jobs) do
      if Erase.weight >= HEAVY then break end
      if may_go(job) then
        Erase.job(job, true)
      else
        kept = kept + 1
        if job[CREATED] >= before then young = young + 1 end
      end
      at = places[k]
      first = first + 1
    end
  end
  local over = first > #members and #members < LOOKED
  local n = Erase.n
  Erase.flush()
  return { n, kept, at or false, over or young == LOOKED }
end)
