#!lua flags=no-writes
-- The lines about the runs of a job between two runs, oldest or newest first, each run whole: {lines, whether there are no more}.

local PAGE = 50 -- lines, which may be long

local function page(place)
  local prefix = 'h' .. place
  local low = '[' .. prefix .. format('%08x', max(ASKED.after + 1, 0))
  local high = '(' .. prefix .. (ASKED.before and format('%08x', max(ASKED.before, 0)) or '\255')
  local limit = min(ASKED.limit, PAGE)
  local members
  if ASKED.newest then
    members = call('ZREVRANGEBYLEX', K.trail, high, low, 'LIMIT', 0, limit)
  else
    members = call('ZRANGEBYLEX', K.trail, low, high, 'LIMIT', 0, limit)
  end
  local over = #members < limit
  if not over then -- the last run may have more lines
    local last, known = sub(members[limit], 1, 23), {}
    for _, member in ipairs(members) do known[member] = true end
    local whole = beginning(K.trail, last)
    local first, final, step = 1, #whole, 1
    if ASKED.newest then first, final, step = #whole, 1, -1 end
    for k = first, final, step do
      if not known[whole[k]] then members[#members + 1] = whole[k] end
    end
  end
  local lines = {}
  for k, member in ipairs(members) do lines[k] = { tonumber(sub(member, 16, 23), 16), unpack_all(sub(member, 26)) } end
  return { lines, over }
end

return verb(function()
  local place = Rows.place_of(ASKED.id)
  return place and page(place) or { {}, true }
end)
