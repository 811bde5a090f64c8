#!lua flags=no-writes
-- with: search
-- A page of the jobs that match: {where it stopped, whether there are no more}, and for each its place, its row and what never
-- changes.

local found = {}
local limit = min(ASKED.limit, PAGE)
local at, over = Search.walk(ASKED.which, ASKED.after, ASKED.newest, limit, function(job)
  found[#found + 1] = job
  return #found >= limit
end)
local answer = { '' }
local n = Search.tell(answer, found)
if n < #found then
  at, over = Rows.place[found[n]], false
end
answer[1] = pack({ at or false, over })
return answer
