-- ready | running | waiting -> waiting | failed, after the process of an attempt died. Crashes are counted apart from
-- errors. Below the budget of crashes the run starts again from its first step after the backoff; beyond it a retrying
-- run yields its slot, another one has failed.
-- ARGV: run, attempt, backoff ms, queue bound ms, settle_due ms, JSON of the rules of retrying runs.
-- Replies {recorded, next = {run, attempt}, settleable = [process id]}.
local run, backoff, rules = ARGV[1], tonumber(ARGV[3]), cjson.decode(ARGV[6])
local key = run_key(run)
if not is_current(run, ARGV[2]) then return cjson.encode(NOT_RECORDED) end
local crashes = redis.call('HINCRBY', key, 'crashes', 1)
count('runs_crashed')
if crashes >= rules.budget and redis.call('HGET', key, 'nacked') ~= '1' then
  return cjson.encode(conclude(run, 'failed', 'crashed', tonumber(ARGV[4]), tonumber(ARGV[5]), backoff))
end
redis.call('HSET', key, 'state', 'waiting', 'reason', 'crashed')
if crashes > rules.budget then
  yield_and_wait(run, rules)
else
  new_attempt(key)
  due('run', run, now + backoff * crashes)
end
return cjson.encode({ recorded = true, settleable = {} })
