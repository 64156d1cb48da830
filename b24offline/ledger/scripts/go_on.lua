-- running -> running, from one step to the next in the same message. ARGV: run, attempt, position, position of the next
-- step, lease ms. Replies {failures, step_failures}, or nothing: the lease was lost, or the record is gone.
local key = run_key(ARGV[1])
local fields = redis.call('HMGET', key, 'state', 'attempt', 'position', 'batches', 'record', 'failures',
  'failures:' .. math.floor(tonumber(ARGV[4]) / 1000000))
if fields[1] ~= 'running' or fields[2] ~= ARGV[2] or fields[3] ~= ARGV[3] then return nil end
if not has_record(fields[4], fields[5]) then return nil end
redis.call('HSET', key, 'position', ARGV[4])
due('run', ARGV[1], now + tonumber(ARGV[5]))
return cjson.encode({ failures = fields[6], step_failures = fields[7] or '0' })
