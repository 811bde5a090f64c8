#!lua flags=no-writes
-- with: erase
-- Whether all below a job has ended, a bite of it: {whether that may still be, what is left to be looked at}. Without `left` it
-- begins.

local BITE_OF = 500 -- pieces that one script looks at

return verb(function()
  local left = ASKED.left
  if not left then
    local job = Rows.with_id(ASKED.id)
    left = job and Erase.may_go(job) and Erase.below(job)
    if not left then return { false, {} } end
  end
  local over = Erase.survey(left, BITE_OF)
  return { over, left }
end)
