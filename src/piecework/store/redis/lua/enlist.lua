#!lua flags=allow-oom
-- Registers a session, unless it is. Told {id, {beat, started_at, seen_at, name, host, pid, polled_at}}.
return verb(function()
  call('HSETNX', K.session, ASKED[1], pack(ASKED[2]))
end)
