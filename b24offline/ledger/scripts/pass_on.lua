-- running -> ready, between two steps: the next step waits in a queue, so it is late by the bound of a queue, and
-- lateness is not a crash. ARGV: run, attempt, position, queue bound ms. Returns 1 or 0.
local fields = redis.call('HMGET', run_key(ARGV[1]), 'state', 'attempt', 'position', 'tries')
if fields[1] ~= 'running' or fields[2] ~= ARGV[2] or fields[3] ~= ARGV[3] then return 0 end
redis.call('HSET', run_key(ARGV[1]), 'state', 'ready', 'sent', now)
due('run', ARGV[1], now + queue_bound(tonumber(ARGV[4]), tonumber(fields[4])))
return 1
