#!lua
-- Says of which version a shard is, and sets it up where it is not. Told {version, shards}; answers {version, shards,
-- whether this call did it}.
return verb(function()
  local new = call('HSETNX', K.meta, 'version', ASKED[1]) == 1
  if new then call('HSET', K.meta, 'shards', ASKED[2]) end
  return { tonumber(call('HGET', K.meta, 'version')), tonumber(call('HGET', K.meta, 'shards')), new }
end)
