-- The way of by far the most jobs: added, taken once, completed. As long as nothing else happened to one, its row is changed
-- as bytes, without being unpacked: of a job that was never begun it is an array of seven, up to CREATED; of one that runs for
-- the first time an array of ten, up to STARTED. Whatever else there is of a job (a batch, a key, a moment at which it
-- expires) stands behind these, and makes the array longer.

local FRESH = '\151\161a\0' -- an array of 7: STATE a, RUN 0, …
local BEGUN = '\154\161r\1' -- an array of 10: STATE r, RUN 1, …
local DONE, DONE_WITH_RESULT = '\156\161c\1', '\157\161c\1' -- arrays of 12 and 13: STATE c, RUN 1, … SETTLED, FINISHED

local Quick = { completed = {} }

-- The row of a job that begins, or nil: then it has to be unpacked. `begun`: packed WORKER, CLAIM and STARTED.
function Quick.begin(row, begun)
  return sub(row, 1, 4) == FRESH and BEGUN .. sub(row, 5) .. begun or nil
end

local settled = '\1' .. pack(NOW) -- SETTLED, FINISHED

-- Completes a run; false where that has to be done with care.
function Quick.complete(place, row, run, attempt, result)
  if not row or sub(row, 1, 4) ~= BEGUN or run ~= 1 or (result and #result > LONG) then return false end
  local _, queue, _, _, spent, _, worker, claim = cmsgpack.unpack_limit(row, 7, 4)
  if spent ~= attempt then return false end
  local bytes, index_in, index_out, runs = Rows.bytes, Rows.added.index, Rows.removed.index, Rows.removed.running
  local n, posting = #bytes, queue .. '\0' .. place
  bytes[n + 1] = place
  bytes[n + 2] = result and DONE_WITH_RESULT .. sub(row, 5) .. settled .. pack(result) or DONE .. sub(row, 5) .. settled
  index_out[#index_out + 1], index_in[#index_in + 1] = 'sa' .. posting, 'sc' .. posting
  runs[#runs + 1] = worker .. '\0' .. claim .. '\0' .. place
  Quick.completed[queue] = (Quick.completed[queue] or 0) + 1
  return true
end

-- Counts what completed so.
function Quick.count()
  for queue, n in pairs(Quick.completed) do Moves.count_completed(queue, n) end
  Quick.completed = {}
end
