#!lua flags=allow-oom
-- with: quick take
-- What a fetch would take here first, for one that looks into several shards: ranks, which are priority, moment and place as
-- bytes in the order of fetching. Told {worker, number of the claim, limit, queues or nil}; answers {whether that claim was
-- answered before, whether there is more to be cleared first, ranks}; of a claim that was, those of what still runs.

local function ranks_of(queue, limit)
  if call('SISMEMBER', K.paused, queue) == 1 then return {} end
  local found = beginning(K.line, queue .. '\0', limit)
  for k, member in ipairs(found) do found[k] = sub(member, #queue + 2) end
  return found
end

local function best(queues, limit)
  if #queues == 1 then return ranks_of(queues[1], limit) end
  local all = {}
  for _, queue in ipairs(queues) do
    for _, rank in ipairs(ranks_of(queue, limit)) do all[#all + 1] = rank end
  end
  table.sort(all)
  for k = #all, limit + 1, -1 do all[k] = nil end
  return all
end

return verb(function()
  local worker, number, limit, queues = ASKED[1], ASKED[2], ASKED[3], ASKED[4]
  Take.check_session(worker)
  local again = Take.ranks_again(ASKED)
  if #again > 0 or limit <= 0 then return { #again > 0, false, again } end
  local more = Take.pass_time()
  Rows.flush()
  if more then return { false, true, {} } end
  return { false, false, best(queues or call('HKEYS', K.lines), limit) }
end)
