#!lua flags=allow-oom
-- Cancels what has not started of a batch that failed or was stopped, where no fetch comes by, a bite of it: behind which
-- piece to go on, or false at the end. Without a batch: the ids of some such batches.

local BITE_OF = 200

return verb(function()
  if not ASKED.batch then
    local ids = beginning(K.index, 'D', ASKED.limit, ASKED.after and 'D' .. ASKED.after or nil)
    for k = 1, #ids do ids[k] = sub(ids[k], 2) end
    return ids
  end
  local prefix = 'b' .. ASKED.batch .. '\0'
  local members = beginning(K.index, prefix, BITE_OF, ASKED.after and prefix .. ASKED.after or nil)
  local places = places_in(members)
  if Fan.is_dead(Rows.batch(ASKED.batch)) then cancel_unstarted(places) end
  Rows.flush()
  return #members == BITE_OF and sub(members[BITE_OF], -22) or false
end)
