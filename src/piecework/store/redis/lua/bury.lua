#!lua flags=allow-oom
-- with: away
-- Ends a session and returns its running jobs. Told {id, beat or false, reason}; answers how many, or false where the beat
-- is another.
return verb(function()
  local id, beat, reason = ASKED[1], ASKED[2], ASKED[3]
  local raw = call('HGET', K.session, id)
  if beat and (not raw or unpack_all(raw)[1] ~= beat) then return false end
  local ids = Away.take(id .. '.', reason, {})
  Rows.flush()
  call('HDEL', K.session, id)
  return #ids
end)
