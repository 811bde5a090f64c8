-- Stops or resumes the fetching of one queue.

return verb(function()
  if ASKED.on then
    call('SADD', K.paused, ASKED.queue)
  elseif call('SREM', K.paused, ASKED.queue) > 0 then
    Rows.woken = true
    Rows.flush()
  end
end)
