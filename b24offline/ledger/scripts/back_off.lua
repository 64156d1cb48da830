-- ready | running -> waiting: a retrying run failed, and yields its slot for as long as its failures ask for.
-- ARGV: run, attempt, reason, JSON of the rules of retrying runs. Returns 1 or 0.
local run = ARGV[1]
if not is_current(run, ARGV[2]) then return 0 end
redis.call('HSET', run_key(run), 'state', 'waiting', 'reason', ARGV[3])
count_failure(run)
if redis.call('HGET', run_key(run), 'nacked') == '1' then
  wait_aside(run, cjson.decode(ARGV[4]))
else
  due('run', run, now)
end
count('runs_retried')
return 1
