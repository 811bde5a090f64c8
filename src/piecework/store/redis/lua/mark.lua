#!lua flags=allow-oom
-- Notes that a session is being ended, where there are several shards: for itself it is dead, and whoever watches it still
-- sees it with its last beat, until its jobs have been returned everywhere. Told {id, beat or false}; answers whether it is
-- there with that beat.
return verb(function()
  local raw = call('HGET', K.session, ASKED[1])
  if not raw then return false end
  local session = unpack_all(raw)
  if ASKED[2] and session[1] ~= ASKED[2] then return false end
  session[7], session[8] = session[7] or false, true
  call('HSET', K.session, ASKED[1], pack(session))
  return true
end)
