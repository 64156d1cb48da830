-- running -> waiting: the step comes again by message after the delay; if the message is lost, the sweep starts the run
-- again after the bound of a queue. ARGV: run, attempt, delay ms, queue bound ms, counted 0|1, reason. Returns 1 or 0.
local run = ARGV[1]
if not is_current(run, ARGV[2]) then return 0 end
redis.call('HSET', run_key(run), 'state', 'waiting', 'reason', ARGV[6])
if ARGV[5] == '1' then count_failure(run) end
local tries = tonumber(redis.call('HGET', run_key(run), 'tries'))
due('run', run, now + tonumber(ARGV[3]) + queue_bound(tonumber(ARGV[4]), tries))
count('runs_retried')
return 1
