#!lua flags=allow-oom
-- with: search erase
-- Deletes some of the jobs that match, with all below them: {how many were deleted, how many of them matched, where the search
-- stopped, whether there are no more, the id of one whose tree is too large to be looked through here, whether graves are left}.

local HEADS, ROOM = 50, 200 -- jobs that match; members of their trees

local heads, room, at, big = {}, ROOM, ASKED.after, nil

-- Looks through the tree of a job that matches, if it may go at all. Says whether that is enough.
local function look(job)
  local left = Erase.may_go(job) and Erase.below(job)
  if left then
    local over, rest = Erase.survey(left, room)
    if over and #left > 0 then -- larger than there is room for: once more, alone
      if #heads == 0 and room == ROOM then
        big, at = Rows.id(job), Rows.place[job]
      end
      return true
    end
    room = rest
    if over then heads[#heads + 1] = job end
  end
  at = Rows.place[job]
  return #heads >= min(HEADS, ASKED.limit) or room <= 0
end

return verb(function()
  ASKED.which.states = { 'c', 'f', 'x', 'p' }
  local stopped, over = Search.walk(ASKED.which, ASKED.after, false, HEADS, look)
  if over then at = stopped end
  for _, job in ipairs(heads) do
    if Rows.by_place[Rows.place[job]] then Erase.head(job) end -- else it went with one above it
  end
  local dug = Erase.dig(ROOM)
  Erase.flush()
  return { Erase.n, #heads, at or false, over, big or false, not dug }
end)
