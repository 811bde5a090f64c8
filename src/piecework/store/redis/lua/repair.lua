-- Derives the counters of some open batches from their pieces again: {what was mended, how many were looked at, where to go
-- on, or false at the end}.

local LOOKED, LARGE = 2000, 1000 -- pieces; those of a larger batch are not counted in one script

local looked, mended = 0, {}

local function counted(id)
  local counts = { [B.OPEN] = 0, [B.COMPLETED] = 0, [B.FAILED] = 0, [B.CANCELLED] = 0 }
  local members = beginning(K.index, 'b' .. id .. '\0')
  for k = 1, #members do members[k] = sub(members[k], -14) end
  Rows.load(members)
  for _, place in ipairs(members) do
    local job = Rows.job(place)
    local field = COUNTER[job[STATE]] or (job[CRASHED] and B.FAILED) or B.OPEN
    counts[field] = counts[field] + 1
  end
  looked = looked + #members
  return counts
end

local function told(batch)
  return batch[B.OPEN] .. ' open, ' .. batch[B.COMPLETED] .. ' completed, ' .. batch[B.FAILED] .. ' failed, '
    .. batch[B.CANCELLED] .. ' cancelled'
end

-- Pieces that were pruned are counted still: more may have completed, or been cancelled, than there are.
local function is_wrong(batch, true_counts)
  return batch[B.OPEN] ~= true_counts[B.OPEN] or batch[B.FAILED] ~= true_counts[B.FAILED]
    or batch[B.COMPLETED] < true_counts[B.COMPLETED] or batch[B.CANCELLED] < true_counts[B.CANCELLED]
end

local function mend(id)
  local batch = Rows.batch(id)
  if batch[B.TOTAL] <= LARGE then
    local true_counts = counted(id)
    if is_wrong(batch, true_counts) then
      mended[#mended + 1] = 'batch ' .. id .. ': the counters said ' .. told(batch) .. ', its pieces ' .. told(true_counts)
      local total = 0
      for _, n in pairs(true_counts) do total = total + n end
      true_counts[B.TOTAL] = total
      Moves.set_batch(id, true_counts)
    end
  end
  Fan.look_at(id)
end

return verb(function()
  local limit = min(ASKED.limit, 100)
  local members = beginning(K.index, 'O', limit, ASKED.after and 'O' .. ASKED.after or nil)
  local n = 0
  while n < #members and looked < LOOKED do
    n = n + 1
    mend(sub(members[n], 2))
  end
  Rows.flush()
  local over = n == #members and n < limit
  return { mended, n, not over and sub(members[n], 2) or false }
end)
