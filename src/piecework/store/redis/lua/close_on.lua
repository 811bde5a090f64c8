#!lua flags=allow-oom
-- Closes what is below batches that have ended, where no fetch would meet it, a bite of that: those of which something is left.

return verb(function()
  for _, id in ipairs(ASKED.batches) do
    if Fan.left > 0 and Fan.is_dead(Rows.batch(id)) then
      Fan.close_on(id)
    elseif Fan.is_dead(Rows.batch(id)) then
      Fan.unfinished[#Fan.unfinished + 1] = id
    end
  end
  Rows.flush()
  return Fan.unfinished
end)
