#!lua flags=no-writes
-- Of which version a shard is, and how many shards there are: {version, shards}; false where it is not set up.
return verb(function()
  local version = call('HGET', K.meta, 'version')
  return version and { tonumber(version), tonumber(call('HGET', K.meta, 'shards')) }
end)
