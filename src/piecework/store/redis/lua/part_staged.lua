-- The jobs of a large call come in bites, and are stored in bites; in between, one short script says that all of them are there.
-- Until then nothing of them is, and the key goes by itself; from then on all of them will be stored, by whoever comes by.
--
--   KEYS[24]  HASH  1, 2, …: a bite: what `add` is told, packed, with the lengths of what it is told beside that, which follows;
--                   from the moment at which all are there: at, that moment; of, how many there are; next, which is to be
--                   stored next; a1, a2, …: the answers to one that was stored, where they are not the jobs' own ids
local Staged = { key = KEYS[24] }

local KEPT = 120 -- seconds for which a call is remembered, from its last bite on, and from its end on

function Staged.keep()
  call('EXPIRE', Staged.key, KEPT)
end

-- Whether all of its bites had come, before or with this script.
function Staged.is_whole()
  return call('HEXISTS', Staged.key, 'next') == 1
end
