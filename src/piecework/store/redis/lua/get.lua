#!lua flags=no-writes
-- with: search
-- The jobs with these ids, as many as one script may answer with: {how many there are}, and for each its place, its row and
-- what never changes.

Rows.look_up(ASKED.ids)
local places, jobs = {}, {}
for _, id in ipairs(ASKED.ids) do places[#places + 1] = Rows.place_of(id) end
Rows.load(places)
for _, place in ipairs(places) do jobs[#jobs + 1] = Rows.job(place) end
local answer = { '' }
Search.tell(answer, jobs)
answer[1] = pack({ #jobs })
return answer
