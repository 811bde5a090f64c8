#!lua flags=no-writes
-- How it stands with an identity in this shard: false where it has no job here; else {place, id and state of the one that arrived
-- last, whether any is busy, and {moment, place, id, text} of what was said last, or false}. Told {tasks, identity}.

local newest, said = '', '' -- place; moment and place: in the order of bytes
local busy = false

-- What stands at the end of the last posting of a list, so many bytes; nil where there is none.
local function last(list, task, length)
  local prefix = list .. ASKED[2] .. '\0' .. task .. '\0'
  local member = call('ZREVRANGEBYLEX', K.index, '(' .. prefix .. '\255', '[' .. prefix, 'LIMIT', 0, 1)[1]
  return member and sub(member, -length)
end

return verb(function()
  for _, task in ipairs(ASKED[1]) do
    local unfinished, over, heard = last('y', task, 14), last('z', task, 14), last('v', task, 28)
    busy = busy or unfinished ~= nil
    for _, place in ipairs({ unfinished or '', over or '' }) do
      if place > newest then newest = place end
    end
    if heard and heard > said then said = heard end
  end
  local job, by = newest ~= '' and Rows.job(newest), said ~= '' and Rows.job(sub(said, -14))
  if not job then return false end
  return {
    newest, Rows.id(job), job[STATE], busy, by and { by[STATUS_AT], Rows.place[by], Rows.id(by), Rows.status(by) },
  }
end)
