-- running -> waiting: a retrying run failed in a way that is certain to come again. Its attempts are used up, so that
-- the sweep dead-letters it. ARGV: run, attempt, reason, JSON of the rules of retrying runs. Returns 1 or 0.
local run, rules = ARGV[1], cjson.decode(ARGV[4])
if not is_current(run, ARGV[2]) then return 0 end
redis.call('HSET', run_key(run), 'state', 'waiting', 'reason', ARGV[3])
if count_failure(run) < rules.attempts then redis.call('HSET', run_key(run), 'failures', rules.attempts) end
wait_for_retry(run, rules)
return 1
