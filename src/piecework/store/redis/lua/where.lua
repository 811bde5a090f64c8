#!lua flags=no-writes
-- Which of these ids are of a job, or of a batch, in this shard: their numbers.
return verb(function()
  local here = {}
  for k, id in ipairs(ASKED.ids) do
    if call('HEXISTS', K.at, id) == 1 or call('HEXISTS', K.batch, id) == 1 then here[#here + 1] = k end
  end
  return here
end)
