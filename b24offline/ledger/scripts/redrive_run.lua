-- dead-lettered | waiting (slot yielded) -> waiting, as if nothing had failed. Its batch is a retrying one again.
-- ARGV: run, delay ms, settle_due ms. Returns 'redriven', the run's state when it is neither, or 'unknown'.
local run, at = ARGV[1], now + tonumber(ARGV[2])
local key = run_key(run)
local fields = redis.call('HMGET', key, 'state', 'object_queue', 'batches')
if not fields[1] then return 'unknown' end
if not has_yielded(run, fields[1], fields[2]) then return fields[1] end
redis.call('HSET', key, 'state', 'waiting', 'failures', 0, 'crashes', 0, 'reason', '', 'seen', now)
due('run', run, at)
for _, pid in ipairs(split(fields[3])) do
  if redis.call('EXISTS', batch_key(pid)) == 1 then
    if redis.call('HDEL', batch_key(pid), 'rest') == 1 then
      change_kind(pid, 'retrying')
      redis.call('HSET', batch_key(pid), 'redriven', now)
    end
    due('batch', pid, at + tonumber(ARGV[3]))
  end
end
count('runs_redriven')
return 'redriven'
