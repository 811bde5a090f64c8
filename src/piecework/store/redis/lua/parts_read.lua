#!lua flags=no-writes
-- with: parts
-- A distributed job and some of its parts: {now, the job as it is kept, {each part as it is kept, or false}}; fewer parts than
-- were asked for, where they are heavy. Told {token, names}.
return verb(function()
  local job = call('HGET', Parts.job, ASKED[1])
  local fields = {}
  for k, name in ipairs(ASKED[2]) do fields[k] = sub(job or '', 1, 14) .. '\0' .. name end
  return { NOW, job, job and Parts.rows(Parts.part, fields) or {} }
end)
