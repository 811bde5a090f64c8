#!lua flags=no-writes
-- with: strays
-- Pieces that an earlier run of a splitter offered and this one did not, a page of its pieces: {their names, behind which posting
-- to go on, or false}. Told {id, run, after}.
return verb(function()
  local job = Rows.with_id(ASKED.id)
  if not job or not job[BELOW] then return { {}, false } end
  local names, on = Strays.page(job[BELOW], ASKED.run, ASKED.after or nil)
  return { names, on or false }
end)
