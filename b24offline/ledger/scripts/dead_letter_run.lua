-- waiting | ready | dead-lettered -> dead-lettered, after its dead letter was written. ARGV: run, attempt as the sweep
-- replied it, ms until it is looked at again. The new attempt number makes every message of before void. A batch
-- without other unfinished runs becomes a dead-lettered one.
-- Returns 'dead_lettered' | 'kept' (was dead-lettered before) | 'moved' (another attempt took it) | 'done' (closed, or
-- final).
local run, rest = ARGV[1], tonumber(ARGV[3])
local key = run_key(run)
local fields = redis.call('HMGET', key, 'state', 'attempt', 'batches')
if not fields[1] or FINAL[fields[1]] then return 'done' end
if fields[2] ~= ARGV[2] or fields[1] == 'running' then return 'moved' end
if fields[1] ~= 'dead_lettered' then
  redis.call('HSET', key, 'state', 'dead_lettered')
  new_attempt(key)
  count('runs_dead_lettered')
end
yield_slot(run)
if FINAL[redis.call('HGET', key, 'state')] then return 'done' end
due('run', run, now + rest)
for _, pid in ipairs(split(fields[3])) do
  local busy = redis.call('EXISTS', batch_key(pid)) == 0
  for _, other in ipairs(runs_of(pid)) do
    local state = redis.call('HGET', run_key(other), 'state')
    if not state or (state ~= 'dead_lettered' and not FINAL[state]) then busy = true end
  end
  if not busy then
    change_kind(pid, 'dead_lettered')
    redis.call('HSET', batch_key(pid), 'rest', rest)
    due('batch', pid, now + batch_rest(pid, 0))
  end
end
return fields[1] == 'dead_lettered' and 'kept' or 'dead_lettered'
