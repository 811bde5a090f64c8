#!lua flags=allow-oom
-- with: erase
-- Deletes what is past its keep, in one list of jobs by queue and state: {how many were deleted, how many stay, where it
-- stopped, whether behind that come none or a page of those that are too young}.

local LOOKED, DELETED = 300, 60
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

return verb(function()
  local prefix = 's' .. ASKED.state .. ASKED.queue .. '\0'
  local members = beginning(K.index, prefix, LOOKED, ASKED.after and prefix .. ASKED.after or nil)
  local young, kept, at, room = 0, 0, ASKED.after, min(DELETED, ASKED.limit)
  for k, job in ipairs(Erase.load(members)) do
    if Erase.n >= room or Erase.weight >= HEAVY then break end
    local place = members[k]
    if may_go(job) then
      Erase.job(job, true)
    else
      kept = kept + 1
      if job[CREATED] >= before then young = young + 1 end
    end
    at = place
  end
  local over = (at or false) == (members[#members] or false) and #members < LOOKED
  local n = Erase.n
  Erase.flush()
  return { n, kept, at or false, over or young == LOOKED }
end)
