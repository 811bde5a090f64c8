#!lua flags=allow-oom
-- with: quick strays settle take
-- `settle`, then `fetch`; either may be empty. Told {runs that just completed, flat, other settlements, texts of advances,
-- claim or false}; answers {what is told of the first beside `ok`, answers to the others (`look`: see strays, and send it again), whether the claim is to be sent
-- again}, and behind it the rows of the jobs that were taken: see part_take.
return verb(function()
  local good, other, written, claim = ASKED[1], ASKED[2], ASKED[3], ASKED[4]
  if claim then Take.check_session(claim[1]) end
  local not_ok, answers, more, list = Settle.good_ends(good), Settle.all(other, written), false, { '' }
  Quick.follow()
  if claim then more, list = Take.all(claim) else Rows.flush() end
  return { not_ok, answers, more }, list
end)
