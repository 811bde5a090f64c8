#!lua flags=no-writes
-- with: search
-- How many jobs match, as far as one script may look: {how many, where it stopped, whether there are no more}.

return verb(function()
  local known = not ASKED.after and Search.known(ASKED.which)
  if known then return { known, false, true } end
  local n = 0
  local at, over = Search.walk(ASKED.which, ASKED.after, false, PAGE, function() n = n + 1 end)
  return { n, at or false, over }
end)
