#!lua flags=allow-oom
-- What is left of a batch that failed or was stopped, where no fetch comes by, a bite of it: what has not started is cancelled,
-- what runs is asked to stop. Answers behind which piece to go on; true, where it has not come to the pieces yet; false at the
-- end. Without a batch: the ids of some such batches.

local BITE_OF = 200

local function page(id)
  local prefix = 'b' .. id .. '\0'
  local members = beginning(K.index, prefix, BITE_OF, ASKED.after and prefix .. ASKED.after or nil)
  local last = #members == BITE_OF and sub(members[BITE_OF], -22)
  local places = places_in(members)
  cancel_unstarted(places)
  for _, place in ipairs(places) do
    local piece = Rows.job(place)
    if piece[STATE] == 'r' then Fan.ask_to_stop(piece, ENDED_RUNNING) end
  end
  return last
end

local function swept(id)
  if not Fan.is_dead(Rows.batch(id)) then return false end
  if not ASKED.after and not Fan.close_on(id) then return true end
  return page(id)
end

return verb(function()
  if not ASKED.batch then
    local ids = beginning(K.index, 'D', ASKED.limit, ASKED.after and 'D' .. ASKED.after or nil)
    for k = 1, #ids do ids[k] = sub(ids[k], 2) end
    return ids
  end
  local on = swept(ASKED.batch)
  Rows.flush()
  return on
end)
