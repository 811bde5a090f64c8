#!lua flags=allow-oom
-- with: away
-- Returns the running jobs of one worker, and answers their ids. Told {worker, {crashed id …}, reason, crash limit}.
return verb(function()
  local crashed = {}
  for _, id in ipairs(ASKED[2]) do crashed[id] = true end
  local ids = Away.take(ASKED[1] .. '\0', ASKED[3], crashed, ASKED[4])
  Rows.flush()
  return ids
end)
