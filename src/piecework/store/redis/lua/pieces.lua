#!lua flags=no-writes
-- with: search
-- Pieces of a batch behind an ordinal, in their order, or only those that ended badly: {whether there are no more}, and for
-- each its place, its row and what never changes.

local lists = ASKED.failed and { 'ef', 'ex', 'ep' } or { 'b' }
local limit = min(ASKED.limit, PAGE)
local found, over = {}, true
for _, list in ipairs(lists) do
  local prefix = list .. ASKED.batch .. '\0'
  local behind = ASKED.after >= 0 and prefix .. format('%08x', ASKED.after) .. '\255'
  local members = beginning(K.index, prefix, limit, behind or nil)
  for _, member in ipairs(members) do found[#found + 1] = sub(member, -22) end
  over = over and #members < limit
end
table.sort(found) -- by ordinal
local places, jobs = {}, {}
for k = 1, min(limit, #found) do places[k] = sub(found[k], -14) end
Rows.load(places)
for k, place in ipairs(places) do jobs[k] = Rows.job(place) end
local answer = { '' }
local n = Search.tell(answer, jobs)
answer[1] = pack({ over and n == #found })
return answer
