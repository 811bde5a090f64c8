-- The verb `add` that follows stores the next bite of a large call, as of the moment at which all of it was there.
local name, number = ASKED[1], ASKED[2]
local due = tonumber(call('HGET', Staged.key, 'next') or nil)
local bite = due and (not number or number == due) and call('HGET', Staged.key, due)

local read = 0 -- bytes of the bite
ASKED = { false, false, {}, {}, {} }
if bite then read, ASKED = unpack_one(bite) end

local lengths = ASKED[5]
told_beside = function(k) -- they are asked for in their order
  read = read + lengths[k]
  return sub(bite, read - lengths[k] + 1, read)
end

if bite then NOW = tonumber(call('HGET', Staged.key, 'at')) end

local function own_ids(answers)
  for k, new in ipairs(ASKED[4]) do
    if answers[k] ~= new[2] then return false end
  end
  return true
end

local function note(answers)
  if not own_ids(answers) then call('HSET', Staged.key, 'a' .. due, pack(answers)) end
  call('HDEL', Staged.key, due)
  if call('HINCRBY', Staged.key, 'next', 1) > tonumber(call('HGET', Staged.key, 'of')) then
    call('ZREM', K.index, 'S' .. name)
    Staged.keep()
  end
end

local add_verb = verb
verb = function(body)
  return add_verb(function()
    if bite then
      note(body())
    elseif not number then
      call('ZREM', K.index, 'S' .. name) -- somebody deleted the key
    end
    local kept = number and call('HGET', Staged.key, 'a' .. number)
    return { kept and unpack_all(kept) or false, call('ZSCORE', K.index, 'S' .. name) and true or false }
  end)
end
