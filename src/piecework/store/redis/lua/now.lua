#!lua flags=no-writes
-- The store's own time.
return verb(function() return NOW end)
