-- running -> waiting. ARGV: run, attempt, delay ms, grace ms, counted 0|1|2, reason, crash budget, chances of a held run,
-- JSON of the waits of a held run. counted 2: all the chances of a held run at once.
-- grace > 0: a repeat of the step is under way by message and the ledger only guards it, by the bound of a queue. grace = 0:
-- the sweep starts the run again from its first step; a held one stands aside meanwhile. delay -1: from the waits.
-- Answers 1 or 0.
local key = run_key(ARGV[1])
local fields = redis.call('HMGET', key, 'state', 'attempt', 'marked', 'tries')
if not fields[1] or FINAL[fields[1]] or fields[2] ~= ARGV[2] then return 0 end
redis.call('HSET', key, 'state', 'waiting', 'reason', ARGV[6])
if ARGV[5] ~= '0' then
  local failures = redis.call('HINCRBY', key, 'failures', 1)
  if ARGV[5] == '2' and failures < tonumber(ARGV[8]) then redis.call('HSET', key, 'failures', ARGV[8]) end
  local step = math.floor(tonumber(redis.call('HGET', key, 'position') or '-1') / 1000000)
  if step >= 0 then redis.call('HINCRBY', key, 'failures:' .. step, 1) end
end
if fields[3] == '1' and ARGV[4] == '0' then
  wait_aside(ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9])
else
  due('run', ARGV[1], now + tonumber(ARGV[3]) + queue_bound(tonumber(ARGV[4]), tonumber(fields[4])))
end
count('runs_retried')
return 1
