-- dead-lettered | waiting (slot yielded) -> succeeded, because an operator says so: its record is cleared under the
-- usual rules. ARGV: run, reason. Returns 'dropped', the run's state when it is neither, or 'unknown'.
local run = ARGV[1]
local fields = redis.call('HMGET', run_key(run), 'state', 'object_queue')
if not fields[1] then return 'unknown' end
if not has_yielded(run, fields[1], fields[2]) then return fields[1] end
new_attempt(run_key(run))
conclude_yielded(run, 'succeeded', ARGV[2])
count('runs_dropped')
return 'dropped'
