#!lua flags=allow-oom
-- with: away
-- Ends a session and returns its running jobs, a bite of them. Told {id, beat or false, reason}; answers {how many, whether there
-- may be more: then it is only being ended}, or false where the beat is another.

local BITE_OF = 250 -- jobs that one script returns

return verb(function()
  local id, beat, reason = ASKED[1], ASKED[2], ASKED[3]
  local raw = call('HGET', K.session, id)
  if beat and (not raw or unpack_all(raw)[1] ~= beat) then return false end
  local ids = Away.take(BITE_OF, id .. '.', reason, {})
  Rows.flush()
  if #ids < BITE_OF then
    call('HDEL', K.session, id)
  elseif raw then
    Away.mark(id, raw)
  end
  return { #ids, #ids == BITE_OF }
end)
