#!lua flags=no-writes
-- with: search
-- The jobs with these ids, as many as one script may answer with: {how many of the ids were looked at}, and for each that
-- is stored its place and its row.

Rows.look_up(ASKED.ids)
local answer, weight, seen = { '' }, 0, 0
for _, id in ipairs(ASKED.ids) do
  local job = Rows.with_id(id)
  if job then weight = weight + Search.tell(answer, job) end
  seen = seen + 1
  if weight >= WEIGHT then break end
end
answer[1] = pack({ seen })
return answer
