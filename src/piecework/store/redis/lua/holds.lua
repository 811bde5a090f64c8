#!lua flags=no-writes
-- The runs of a worker: {{id, run}, …}. Told {worker}.
return verb(function()
  local places, runs = {}, {}
  for k, member in ipairs(beginning(K.running, ASKED[1] .. '\0')) do places[k] = sub(member, -14) end
  Rows.load(places)
  for k, place in ipairs(places) do
    local job = Rows.job(place)
    runs[k] = { Rows.id(job), job[RUN] }
  end
  return runs
end)
