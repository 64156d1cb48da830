-- due -> requested: takes the poll lease, which outlives the reserving call. ARGV: token, lease ms, most open batches,
-- recovery ms, new epoch, epoch the store knows ('' = this portal was never polled), lane, in-doubt ms, kind of the
-- batch to be opened, seconds to wait when too many are open, most bytes of open events, places that it takes.
-- Each lane counts its own batches, and retrying ones are counted by themselves: neither a flood nor records that keep
-- failing keep the others out.
-- Replies {token, epoch, unanswered = whether nobody knows the answer to the call of the lease before}, or
-- {reason = 'busy' | 'full' | 'over_quota' | 'recovering', wait_seconds, epoch if recovering}.
forget_other_server(tonumber(ARGV[8]))
local epoch = redis.call('HGET', FENCING, 'epoch')
if not epoch then
  epoch = ARGV[5]
  redis.call('HSET', FENCING, 'epoch', epoch, 'schema', SCHEMA, 'server', this_server())
  redis.call('HSETNX', LOOK, 'ended', now)
end
if ARGV[6] ~= '' and ARGV[6] ~= epoch then
  -- The ledger was lost, or is another one than before. A get or error call of before may still be on its way.
  redis.call('HSET', FENCING, 'recovery_until', now + tonumber(ARGV[4]), 'unanswered', now + 2 * tonumber(ARGV[8]))
  redis.call('DEL', ORPHANS)
  whole_from_now()
  -- Where batches are still open the fencing hash was lost alone. Batches that were lost with it come back by
  -- adoption, each with an in-doubt window of its own.
  if redis.call('EXISTS', BATCHES, OPEN) > 0 then all_in_doubt(tonumber(ARGV[8])) end
end
local fields = redis.call('HMGET', FENCING, 'recovery_until', 'poll_until', 'intent', 'unanswered')
if fields[1] and tonumber(fields[1]) > now then
  return cjson.encode({ reason = 'recovering', wait_seconds = (tonumber(fields[1]) - now) / 1000, epoch = epoch })
end
if fields[2] and tonumber(fields[2]) > now then
  return cjson.encode({ reason = 'busy', wait_seconds = (tonumber(fields[2]) - now) / 1000 })
end
local open, most = tonumber(redis.call('HGET', OPEN, gate_of(ARGV[9], ARGV[7])) or '0'), tonumber(ARGV[3])
if open >= most or (open > 0 and open + tonumber(ARGV[12]) > most) then
  return cjson.encode({ reason = 'full', wait_seconds = ARGV[10] })
end
local bytes = redis.call('HGET', OPEN, quota_of(ARGV[9]))
if tonumber(bytes or '0') >= tonumber(ARGV[11]) then
  return cjson.encode({ reason = 'over_quota', wait_seconds = ARGV[10] })
end
if fields[3] then
  -- Nobody knows the answer to the call that was sent under the lease before. The portal may execute it yet.
  local until_then = fields[3] + tonumber(ARGV[8])
  if until_then > tonumber(fields[4] or '0') then redis.call('HSET', FENCING, 'unanswered', until_then) end
  redis.call('HDEL', FENCING, 'intent')
end
redis.call('HSET', FENCING, 'poll_token', ARGV[1], 'poll_until', now + tonumber(ARGV[2]))
return cjson.encode({ token = ARGV[1], epoch = epoch, unanswered = fields[3] and true or false })
