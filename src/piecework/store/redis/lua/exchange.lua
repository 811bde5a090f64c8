#!lua flags=allow-oom
-- with: settle take
-- `settle`, then `fetch`; either may be empty. Told {settlements, texts of advances, claim}; answers {answers, more, jobs}.
return verb(function()
  local settlements, written, claim = ASKED[1], ASKED[2], ASKED[3]
  if claim then Take.check_session(claim[1]) end
  local answers, jobs, more = Settle.all(settlements, written), '\144', false
  if claim then jobs, more = Take.all(claim) else Rows.flush() end
  return nil, '\147' .. pack(answers) .. pack(more) .. jobs
end)
