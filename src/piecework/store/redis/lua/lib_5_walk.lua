-- Operations: moved on, made to listen, told, and turned round.

local Walk = {}

-- ── globals ─────────────────────────────────────────────────────────────────────────────────────

-- An array of {key, value, {term …}}.
function Walk.globals(job)
  local raw = Rows.held('globals', Rows.place[job])
  return raw and unpack_all(raw) or {}
end

-- The globals as a JSON object; the values are JSON already.
function Walk.globals_text(job)
  local parts = {}
  for k, change in ipairs(Walk.globals(job)) do parts[k] = cjson.encode(change[1]) .. ':' .. change[2] end
  return '{' .. concat(parts, ',') .. '}'
end

-- How many globals have a term: it is posted once.
local function term_counts(globals)
  local counts = {}
  for _, change in ipairs(globals) do
    for _, term in ipairs(change[3] or {}) do counts[term] = (counts[term] or 0) + 1 end
  end
  return counts
end

local function changed(globals, changes)
  local present, at = {}, {}
  for k, change in ipairs(globals) do present[k], at[change[1]] = change, k end
  for _, change in ipairs(changes) do
    local k = at[change[1]]
    if not k then
      k = #present + 1
      at[change[1]] = k
    end
    present[k] = change
  end
  local left = {}
  for _, change in ipairs(present) do
    if change[2] then left[#left + 1] = change end
  end
  return left
end

-- Key by key: what is not named stays as it is. `changes`: {{key, value or false, {term …}}, …}.
function Walk.change_globals(job, changes)
  if #changes == 0 then return end
  local place, before = Rows.place[job], Walk.globals(job)
  local after = changed(before, changes)
  local had, has = term_counts(before), term_counts(after)
  for term in pairs(had) do
    if not has[term] then take_out(Rows.sets.index, 'g' .. term .. '\0' .. place) end
  end
  for term in pairs(has) do
    if not had[term] then put(Rows.sets.index, 'g' .. term .. '\0' .. place) end
  end
  Rows.hashes.globals[place] = #after > 0 and pack(after) or false
end

-- ── its way ─────────────────────────────────────────────────────────────────────────────────────

-- A batch below it that is still open is stopped, for nobody would look at it.
function Walk.stop_below(job)
  if Fan.is_open(Fan.own(job)) then Fan.close(job[BELOW], 'stopped') end
end

-- It waits for no batch any more.
function Walk.leave_batch(job)
  Walk.stop_below(job)
  job[BELOW] = nil
  Rows.changed[job] = true
end

-- A step has ended: its changes hold, and the next one begins anew. `written`: {wait = as in an operation's row, ending = …}.
function Walk.advance(job, advance, written)
  Walk.leave_batch(job)
  job[ATTEMPT], job[CRASHES], job[PROGRESS], job[EXPIRES] = 0, nil, nil, nil
  job[PRIORITY] = advance.priority or job[PRIORITY]
  if advance.queue and advance.queue ~= job[QUEUE] then Moves.to(job, job[STATE], { [QUEUE] = advance.queue }) end
  local operation = Rows.operation(job)
  if operation[O.WAIT] or operation[O.RECEIVED] or written.wait or written.ending then
    operation[O.WAIT], operation[O.RECEIVED] = written.wait, nil
    operation[O.ENDING] = operation[O.ENDING] or written.ending -- who asked for it is not told that it failed meanwhile
    Rows.touch_operation(job)
  end
  Walk.change_globals(job, advance.changes)
end

-- ── signals ─────────────────────────────────────────────────────────────────────────────────────

function Walk.lacks_signal(job)
  local operation = Rows.operation(job)
  return operation ~= nil and operation[O.WAIT] and not operation[O.RECEIVED] and true or false
end

-- What the operation waits for now, if it is a signal, and not its pieces: {name, timeout, delay, run_at, JSON}.
function Walk.awaited(job)
  if job[STATE] ~= 'w' or Fan.is_open(Fan.own(job)) or not Walk.lacks_signal(job) then return nil end
  return Rows.operation(job)[O.WAIT]
end

-- The wait begins: its timeout counts from now, and what came before it counts as well.
function Walk.listen(job)
  local wait = Walk.awaited(job)
  if not wait then return end
  job[RUN_AT] = NOW + (wait[2] or 0)
  Rows.changed[job] = true
  if wait[2] then Rows.scores.wake[Rows.place[job]] = job[RUN_AT] end
  Walk.hear(job)
end

-- An operation that waits takes the oldest signal of that name, and may run.
function Walk.hear(job)
  local wait = Walk.awaited(job)
  if not wait then return end
  Rows.write('trail')
  local place = Rows.place[job]
  local prefix = 'u' .. place .. wait[1] .. '\0'
  local member = beginning(K.trail, prefix, 1)[1]
  if not member then return end
  local at, signal = sub(member, #prefix + 1, #prefix + 14), unpack_all(sub(member, #prefix + 15))
  take_out(Rows.sets.trail, member)
  put(Rows.sets.trail, 't' .. place .. at .. pack({ signal[1], wait[1], signal[2], signal[3], signal[4], NOW }))
  Rows.operation(job)[O.RECEIVED] = signal[2]
  Rows.touch_operation(job)
  Moves.to(job, 'a', { [RUN_AT] = max(NOW + (wait[3] or 0), wait[4] or 0) })
end

function Walk.stop_listening(job)
  local operation = Rows.operation(job)
  operation[O.WAIT], operation[O.RECEIVED] = nil, nil
  Rows.touch_operation(job)
  Rows.scores.wake[Rows.place[job]] = false
end

-- ── going back ──────────────────────────────────────────────────────────────────────────────────

-- An operation with an ending may run at once: its worker undoes what it did. All that it waited for is over.
function Walk.undo(job)
  job[TO_UNDO] = nil
  Walk.leave_batch(job)
  Walk.stop_listening(job)
  local ending = Rows.operation(job)[O.ENDING]
  Rows.set_error(job, nil)
  job[REASON], job[FINISHED], job[STOPPING] = ending and ending[1] or nil, nil, nil
  Moves.to(job, 'a', { [RUN_AT] = NOW, [ATTEMPT] = 0, [CRASHES] = false, [EXPIRES] = false, [CRASHED] = false })
end
