-- ready | running | waiting -> ready | failed, after the process of an attempt died. Crashes are counted apart from errors.
-- ARGV: run, attempt, budget, backoff ms, queue bound ms, settle_due ms. Below the budget the run starts again from its
-- first step after the backoff. Then chances and waits of a held run: beyond the budget it stands aside. Answers {1 again | 2 failed | 0 not this attempt, next run, attempt, pids}.
local run = ARGV[1]
local key = run_key(run)
local fields = redis.call('HMGET', key, 'state', 'attempt', 'marked')
if not fields[1] or FINAL[fields[1]] or fields[2] ~= ARGV[2] then return { 0, '', 0, {} } end
local crashes = redis.call('HINCRBY', key, 'crashes', 1)
count('runs_crashed')
if crashes >= tonumber(ARGV[3]) and fields[3] ~= '1' then
  local told = conclude(run, 'failed', 'crashed', tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[4]))
  return { 2, told[1], told[2], told[3] }
end
redis.call('HSET', key, 'state', 'waiting', 'reason', 'crashed')
if crashes > tonumber(ARGV[3]) then
  wait_aside(run, -1, tonumber(ARGV[3]), tonumber(ARGV[7]), ARGV[8])
else
  redis.call('HINCRBY', key, 'attempt', 1)
  due('run', run, now + tonumber(ARGV[4]) * crashes)
end
return { 1, '', 0, {} }
