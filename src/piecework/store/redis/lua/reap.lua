#!lua flags=allow-oom
-- with: away
-- Returns the running jobs of one worker, a bite of them: {their ids, whether there may be more}. Told {worker, {crashed id …},
-- reason, crash limit}.

local BITE_OF = 250 -- jobs that one script returns

return verb(function()
  local crashed = {}
  for _, id in ipairs(ASKED[2]) do crashed[id] = true end
  local ids = Away.take(BITE_OF, ASKED[1] .. '\0', ASKED[3], crashed, ASKED[4])
  Rows.flush()
  return { ids, #ids == BITE_OF }
end)
