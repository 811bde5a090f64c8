#!lua
-- with: staged
-- Keeps bites of a large call. Told {the number of the first}, and the bites behind it; answers whether all of that call had come
-- before: then they are not kept again.
return verb(function()
  if Staged.is_whole() then return true end
  for k = 3, #ARGV do call('HSET', Staged.key, ASKED[1] + k - 3, ARGV[k]) end
  Staged.keep()
  return false
end)
