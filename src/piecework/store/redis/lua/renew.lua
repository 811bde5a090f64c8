#!lua flags=allow-oom
-- Raises a session's beat by one. Told {id, seconds since its workers looked or false}; answers whether it is alive.
return verb(function()
  local raw = call('HGET', K.session, ASKED[1])
  if not raw then return false end
  local session = unpack_all(raw)
  if session[8] then return false end -- it is being ended, see mark.lua
  session[1], session[3] = session[1] + 1, NOW
  if ASKED[2] then session[7] = NOW - ASKED[2] end
  call('HSET', K.session, ASKED[1], pack(session))
  return true
end)
