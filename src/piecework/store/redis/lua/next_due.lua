#!lua flags=no-writes
-- Seconds until something is due, expires, or has waited long enough; below zero where it is. False where there is nothing.

return verb(function()
  local soonest
  for _, key in ipairs({ K.later, K.expiry, K.wake }) do
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    local at = tonumber(first[2] or nil)
    if at and (not soonest or at < soonest) then soonest = at end
  end
  return soonest and soonest - NOW or false
end)
