-- Pieces that an earlier run of a splitter offered, and this one did not.

local Strays = {}
local LOOKED = 500 -- pieces that one script looks at
local AT_ONCE, WEIGHING = 25, 1048576 -- of any size that are read at once; bytes that are enough for one script
local NAMED = 6 -- they are told by their names, a few

-- The names of those that were not cancelled, and behind which posting to go on: nil at the end.
function Strays.page(id, run, after)
  local names, looked, weight, prefix = {}, 0, 0, 'b' .. id .. '\0'
  while looked < LOOKED and weight < WEIGHING and #names < NAMED do
    local members = beginning(K.index, prefix, AT_ONCE, after and prefix .. after or nil)
    local jobs, fields = {}, {}
    for k, member in ipairs(members) do members[k], after = sub(member, -14), sub(member, -22) end
    Rows.load(members)
    for k, place in ipairs(members) do jobs[k] = Rows.job(place) end
    Rows.load_fixed(jobs)
    for k, job in ipairs(jobs) do
      weight = weight + #Rows.fixed_row(job)
      fields[k] = id .. '\0' .. Fan.name(job)
    end
    Rows.look('offer', fields)
    for k, job in ipairs(jobs) do
      local offer = Rows.held('offer', fields[k])
      local by_run = offer and unpack_all(offer)[2] == run
      if not by_run and job[STATE] ~= 'x' and #names < NAMED then names[#names + 1] = Fan.name(job) end
    end
    looked = looked + #members
    if #members < AT_ONCE then return names, nil end
  end
  return names, #names < NAMED and after or nil
end
