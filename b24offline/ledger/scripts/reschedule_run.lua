-- running -> waiting: the sweep starts the run again from its first step after the delay; a retrying one yields its
-- slot meanwhile. ARGV: run, attempt, delay ms ('' = as long as its failures ask for), counted 0|1, reason, JSON of the
-- rules of retrying runs. Returns 1 or 0.
local run = ARGV[1]
if not is_current(run, ARGV[2]) then return 0 end
redis.call('HSET', run_key(run), 'state', 'waiting', 'reason', ARGV[5])
if ARGV[4] == '1' then count_failure(run) end
wait_for_retry(run, cjson.decode(ARGV[6]), tonumber(ARGV[3]))
return 1
