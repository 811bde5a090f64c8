-- with: deeds revive
-- The batches that retries hold open while they bring pieces back: {{id, how many are still to come at most}, …}. Those of
-- `let_go` go their way.

return verb(function()
  for _, id in ipairs(ASKED.let_go) do Revive.let_go(id) end
  Rows.flush()
  local held = beginning(K.index, 'H', 1000)
  for k = 1, #held do
    local id = sub(held[k], 2)
    local batch = Rows.batch(id)
    held[k] = { id, batch and batch[B.FAILED] + batch[B.CANCELLED] or 0 }
  end
  return held
end)
