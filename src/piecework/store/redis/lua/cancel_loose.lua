#!lua flags=allow-oom
-- Stops those of these batches that are open and that nothing follows: {how many that were, which of them have something below
-- them that is still to be cancelled}.

return verb(function()
  local n = 0
  for _, id in ipairs(ASKED.ids) do
    local batch = Rows.batch(id)
    if Fan.is_open(batch) and not batch[B.THEN] then
      Fan.close(id, 'stopped')
      n = n + 1
    end
  end
  Rows.flush()
  return { n, Fan.unfinished }
end)
