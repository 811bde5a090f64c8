#!lua flags=allow-oom
-- with: erase
-- Deletes the head of a tree that was looked through, where it still may go, and a bite of what is below deleted heads:
-- {how many were deleted, whether graves are left}.

local BITE_OF = 200 -- jobs that one script deletes

return verb(function()
  local job = ASKED.id and Rows.with_id(ASKED.id)
  if job and Erase.may_go(job) and Erase.below(job) then Erase.head(job) end
  local dug = Erase.dig(BITE_OF)
  Erase.flush()
  return { Erase.n, not dug }
end)
