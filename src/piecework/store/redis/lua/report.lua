#!lua flags=allow-oom
-- Keeps the progress of jobs that a worker runs, and answers the ids of those that were asked to stop. Told {worker,
-- {id: progress as JSON}}.
return verb(function()
  local places, stopping = {}, {}
  for k, member in ipairs(beginning(K.running, ASKED[1] .. '\0')) do places[k] = sub(member, -14) end
  Rows.load(places)
  for _, place in ipairs(places) do
    local job = Rows.job(place)
    local progress = ASKED[2] and ASKED[2][Rows.id(job)]
    if progress then
      job[PROGRESS] = progress
      Rows.changed[job] = true
    end
    if job[STOPPING] or Fan.is_doomed(job) then stopping[#stopping + 1] = Rows.id(job) end
  end
  Rows.flush()
  return stopping
end)
