#!lua flags=no-writes
-- with: search
-- A page of the jobs that match: {where it stopped, whether there are no more}, and for each its place and its row.

local answer, n, weight = { '' }, 0, 0
local at, over = Search.walk(ASKED.which, ASKED.after, ASKED.newest, function(job)
  weight = weight + Search.tell(answer, job)
  n = n + 1
  return n >= ASKED.limit or weight >= WEIGHT
end)
answer[1] = pack({ at or false, over })
return answer
