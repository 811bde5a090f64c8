#!lua flags=allow-oom
-- with: away
-- Returns the running jobs of one worker, a bite of them: {their ids, whether there may be more}. Told {worker, {crashed id …},
-- reason, crash limit, its session, its number}.

local BITE_OF = 250 -- jobs that one script returns

-- Ranges with one more number; those that touch become one.
local function with_one_more(ranges, number)
  local merged, first, last = {}, number, number
  for k = 1, #ranges, 2 do
    if ranges[k + 1] + 1 < first or last + 1 < ranges[k] then
      merged[#merged + 1], merged[#merged + 2] = ranges[k], ranges[k + 1]
    else
      first, last = min(first, ranges[k]), max(last, ranges[k + 1])
    end
  end
  merged[#merged + 1], merged[#merged + 2] = first, last
  return merged
end

-- Notes that a worker is over: a fetch of it that arrives later gets nothing. One whose session has ended is anyway.
local function give_up(id, number)
  local raw = call('HGET', K.session, id)
  if not raw then return end
  local session = unpack_all(raw)
  session[7], session[8] = session[7] or false, session[8] or false
  session[9] = with_one_more(session[9] or {}, number)
  call('HSET', K.session, id, pack(session))
end

return verb(function()
  local crashed = {}
  for _, id in ipairs(ASKED[2]) do crashed[id] = true end
  local ids = Away.take(BITE_OF, ASKED[1] .. '\0', ASKED[3], crashed, ASKED[4])
  Rows.flush()
  give_up(ASKED[5], ASKED[6])
  return { ids, #ids == BITE_OF }
end)
