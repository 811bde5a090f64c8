#!lua flags=no-writes
-- The sessions that have not ended: {id, packed session, …}.
return verb(function()
  local flat, sessions = call('HGETALL', K.session), {}
  for k = 1, #flat, 2 do sessions[#sessions + 1] = { flat[k], unpack_all(flat[k + 1]) } end
  return sessions
end)
