-- dead-lettered, or waiting aside -> succeeded, because an operator says so: its record is cleared under the usual rules.
-- ARGV: run, reason. Returns 'dropped', the run's state when it is neither, or 'unknown'.
local run = ARGV[1]
local fields = redis.call('HMGET', run_key(run), 'state', 'object_queue')
if not fields[1] then return 'unknown' end
local aside = fields[1] == 'waiting' and not redis.call('LPOS', fields[2], run)
if fields[1] ~= 'dead_lettered' and not aside then return fields[1] end
redis.call('HINCRBY', run_key(run), 'attempt', 1)
conclude_aside(run, 'succeeded', ARGV[2])
count('runs_dropped')
return 'dropped'
