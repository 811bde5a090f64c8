#!lua flags=allow-oom
-- Fixes the number of pieces of a batch. Told {batch}; answers whether this call did it.
return verb(function()
  local batch = Rows.batch(ASKED[1])
  if not batch or batch[B.SEALED] then return false end
  Fan.seal(ASKED[1])
  Rows.flush()
  return true
end)
