-- with: deeds revive
-- The next bite of what a retry brings back: {what is still held}. One that was stopped again meanwhile is let go.

return verb(function()
  Revive.begin(ASKED)
  for _, held in ipairs(ASKED.held) do
    local batch = Rows.batch(held[1])
    if not Fan.is_open(batch) then
      Revive.let_go(held[1])
    elseif Revive.room > 0 then
      Revive.below(held[1], held[2] or nil)
    else
      Revive.held[#Revive.held + 1] = held
    end
  end
  Moves.keep_last_place()
  Rows.flush()
  return Revive.held
end)
