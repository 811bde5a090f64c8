#!lua flags=allow-oom
-- with: settle take
-- `settle`, then `fetch`; either may be empty. Told {settlements, texts of advances, claim}; answers {answers, whether
-- the claim is to be sent again}, and behind it the rows of the jobs that were taken: see part_take.
return verb(function()
  local settlements, written, claim = ASKED[1], ASKED[2], ASKED[3]
  if claim then Take.check_session(claim[1]) end
  local answers, more, list = Settle.all(settlements, written), false, { '' }
  if claim then more, list = Take.all(claim) else Rows.flush() end
  return { answers, more }, list
end)
