-- ready | running -> waiting: a retrying run failed, and yields its slot for as long as its failures ask for.
-- ARGV: run, attempt, reason, JSON of the rules of retrying runs. Returns 1 or 0.
local run = ARGV[1]
if not is_current(run, ARGV[2]) then return 0 end
redis.call('HSET', run_key(run), 'state', 'waiting', 'reason', ARGV[3])
count_failure(run)
wait_for_retry(run, cjson.decode(ARGV[4]))
return 1
