-- ready | running -> waiting: a held run failed, and stands aside for as long as its failures ask for.
-- ARGV: run, attempt, reason, JSON of the rules of held runs. Answers 1 or 0.
local run = ARGV[1]
if not is_current(run, ARGV[2]) then return 0 end
redis.call('HSET', run_key(run), 'state', 'waiting', 'reason', ARGV[3])
count_failure(run)
if redis.call('HGET', run_key(run), 'marked') == '1' then
  wait_aside(run, cjson.decode(ARGV[4]))
else
  due('run', run, now)
end
count('runs_retried')
return 1
