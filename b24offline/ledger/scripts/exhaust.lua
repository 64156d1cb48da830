-- running -> waiting: a held run failed in a way that comes again for certain. All its chances are used up, so that the
-- sweep parks it. ARGV: run, attempt, reason, JSON of the rules of held runs. Answers 1 or 0.
local run, rules = ARGV[1], cjson.decode(ARGV[4])
if not is_current(run, ARGV[2]) then return 0 end
redis.call('HSET', run_key(run), 'state', 'waiting', 'reason', ARGV[3])
if count_failure(run) < rules.chances then redis.call('HSET', run_key(run), 'failures', rules.chances) end
if redis.call('HGET', run_key(run), 'marked') == '1' then
  wait_aside(run, rules)
else
  due('run', run, now)
end
count('runs_retried')
return 1
