-- with: search deeds revive
-- Brings back some of the jobs that match: {how many matched, how many came back, where the search stopped, whether there
-- are no more, what is held for the next bites}.

local BITE_OF = 100 -- jobs that one script looks for

return verb(function()
  Revive.begin(ASKED)
  ASKED.which.states = Revive.kinds
  local found, at, over = Search.first(ASKED.which, ASKED.after, min(ASKED.limit, BITE_OF), Revive.is_wanted)
  local n = 0
  for _, job in ipairs(found) do
    if Revive.job(job) then n = n + 1 end
  end
  Moves.keep_last_place()
  Rows.flush()
  return { #found, n, at or false, over, Revive.held }
end)
