#!lua
-- with: staged
-- Says that all bites of a large call have come. Told {its name, how many there are}; answers whether that is so: else they went
-- because of their age, and have to come again.
return verb(function()
  if Staged.is_whole() then return true end
  if call('HLEN', Staged.key) ~= ASKED[2] then return false end
  call('HSET', Staged.key, 'at', format('%.17g', NOW), 'of', ASKED[2], 'next', 1)
  call('PERSIST', Staged.key)
  put(Rows.sets.index, 'S' .. ASKED[1])
  Rows.flush()
  return true
end)
