-- The way of by far the most jobs: added, taken once, completed. As long as nothing else happened to one, its row is changed
-- as bytes, without being unpacked. One that was never begun is an array of seven, up to CREATED, or of nine, if it is a
-- piece, up to ORDINAL; one that runs for the first time an array of twelve, up to STARTED. Whatever else there is of a job (a
-- key, a moment at which it expires, an earlier run) stands behind these, and makes the array longer.

local FRESH, FRESH_PIECE = '\151\161a\0', '\153\161a\0' -- arrays of 7 and 9: STATE a, RUN 0, …
local BEGUN = '\156\161r\1' -- an array of 12: STATE r, RUN 1, …
local DONE, DONE_WITH_RESULT = '\158\161c\1', '\159\161c\1' -- arrays of 14 and 15: STATE c, RUN 1, … SETTLED, FINISHED
local NO_PIECE = '\194\194' -- BATCH and ORDINAL of a job that is none

local unpack_limit = cmsgpack.unpack_limit -- reads values that stand behind each other, here from QUEUE on
local AT_QUEUE = 4
local char = string.char

local Quick = { completed = {}, batches = {} }

-- The row of a job that begins, or nil: then it has to be unpacked. `begun`: packed WORKER, CLAIM and STARTED.
function Quick.begin(row, begun)
  local head = sub(row, 1, 4)
  if head == FRESH then return BEGUN .. sub(row, 5) .. NO_PIECE .. begun end
  if head ~= FRESH_PIECE then return nil end
  local _, _, _, _, _, _, batch = unpack_limit(row, 6, AT_QUEUE)
  return not Fan.is_dead(Rows.batch(batch)) and BEGUN .. sub(row, 5) .. begun or nil
end

-- Counts a piece that completes; false where its batch has come to an end before it.
local function count_piece(id)
  local batch = Rows.batch(id)
  if not Fan.is_open(batch) then return false end
  batch[B.OPEN], batch[B.COMPLETED] = batch[B.OPEN] - 1, batch[B.COMPLETED] + 1
  Rows.changed_batches[id], Quick.batches[id] = true, true
  return true
end

local settled = '\1' .. pack(NOW) -- SETTLED, FINISHED

-- Completes a run; false where that has to be done with care.
function Quick.complete(place, row, run, attempt, result)
  if not row or sub(row, 1, 4) ~= BEGUN or run ~= 1 or (result and #result > LONG) then return false end
  local at, queue = unpack_limit(row, 3, AT_QUEUE) -- `at`: behind RUN_AT, where ATTEMPT is one byte
  local _, _, _, batch, _, worker, claim = unpack_limit(row, 6, at)
  if attempt > 127 or (batch and not count_piece(batch)) then return false end
  local bytes, index_in, index_out, runs = Rows.fields.job, Rows.added.index, Rows.removed.index, Rows.removed.running
  local n, posting, spent = #bytes, queue .. '\0' .. place, char(attempt)
  bytes[n + 1] = place
  bytes[n + 2] = (result and DONE_WITH_RESULT or DONE) .. sub(row, 5, at) .. spent .. sub(row, at + 2) .. settled ..
    (result and pack(result) or '')
  index_out[#index_out + 1], index_in[#index_in + 1] = 'sa' .. posting, 'sc' .. posting
  runs[#runs + 1] = worker .. '\0' .. claim .. '\0' .. place
  Quick.completed[queue] = (Quick.completed[queue] or 0) + 1
  return true
end

-- Counts what completed so, and ends the batches that this brought to their end.
function Quick.follow()
  for queue, n in pairs(Quick.completed) do Moves.count_completed(queue, n) end
  for id in pairs(Quick.batches) do Fan.look_at(id) end
  Quick.completed, Quick.batches = {}, {}
end

-- What jobs that arrive have in common, as it stands in front of their places; nil where they are not due. Of pieces the row
-- lacks its end, the ordinal.
function Quick.kind(state, task, queue, priority, run_at, batch, root)
  if state ~= 'a' or run_at > NOW then return nil end
  local row = pack({ state, 0, queue, priority, run_at, 0, NOW, batch or nil, batch and 0 or nil })
  return {
    queue = queue, row = batch and sub(row, 1, -2) or row, root = root and 'r' .. root .. '\0' or nil,
    state = 'sa' .. queue .. '\0', task = 't' .. task .. '\0',
    line = queue .. '\0' .. format('%08x', priority + 2147483648) .. moment(run_at),
  }
end

-- A plain job arrives, or with an ordinal a plain piece.
function Quick.arrive(kind, place, id, fixed_row, ordinal)
  local fields, index, lines = Rows.fields, Rows.added.index, Rows.added.line
  local n, m, l = #fields.job, #index, #lines
  fields.job[n + 1], fields.job[n + 2] = place, ordinal and kind.row .. pack(ordinal) or kind.row
  fields.fixed[n + 1], fields.fixed[n + 2] = place, fixed_row
  fields.at[n + 1], fields.at[n + 2] = id, place
  index[m + 1], index[m + 2], index[m + 3] = kind.state .. place, kind.task .. place, kind.root and kind.root .. place or nil
  lines[l + 1] = kind.line .. place
  Rows.by_id[id] = place
  Moves.count_arrived(kind.queue, 1)
end
