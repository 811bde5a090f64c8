#!lua
-- Leaves a line that says that somebody sleeps, until whoever makes work available takes it away. Lines of sleepers that
-- have died, or hear elsewhere by now, go on the way.

call('ZREMRANGEBYSCORE', K.sleepers, '-inf', '(' .. format('%.17g', NOW))
call('ZADD', K.sleepers, format('%.17g', NOW + ASKED.seconds), ASKED.id)
return pack({ 'ok', true })
