-- running -> running. ARGV: run, attempt, position, lease ms. Returns 1, or 0 when another
-- attempt or step has the lease.
local fields = redis.call('HMGET', run_key(ARGV[1]), 'state', 'attempt', 'position')
if fields[1] ~= 'running' or fields[2] ~= ARGV[2] or fields[3] ~= ARGV[3] then return 0 end
due('run', ARGV[1], now + tonumber(ARGV[4]))
return 1
