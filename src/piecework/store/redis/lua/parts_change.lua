#!lua flags=allow-oom
-- with: parts
-- Changes a distributed job, unless it has changed since it was read. Told {…, …, …, …, change}: see part_parts.
return verb(function() return true end)
