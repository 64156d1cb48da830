-- due -> requested: takes the poll lease, which outlives the reserving call. ARGV: token, lease ms, gate (open batches),
-- recovery ms, new generation, generation the store knows ('' = this portal was never polled).
-- Answers {'taken', generation} | {'busy', ms} | {'full', open} | {'recovering', ms, generation}.
local generation = redis.call('HGET', GUARD, 'generation')
if not generation then
  -- The ledger is new or was lost. After a loss a reserving or marking call of before may still be on its way.
  generation = ARGV[5]
  redis.call('HSET', GUARD, 'generation', generation)
  if ARGV[6] ~= '' then redis.call('HSET', GUARD, 'recovery_until', now + tonumber(ARGV[4])) end
end
local fields = redis.call('HMGET', GUARD, 'recovery_until', 'poll_until')
if fields[1] and tonumber(fields[1]) > now then return { 'recovering', tonumber(fields[1]) - now, generation } end
if fields[2] and tonumber(fields[2]) > now then return { 'busy', tonumber(fields[2]) - now } end
local open = redis.call('ZCARD', BATCHES)
if open >= tonumber(ARGV[3]) then return { 'full', open } end
redis.call('HSET', GUARD, 'poll_token', ARGV[1], 'poll_until', now + tonumber(ARGV[2]))
return { 'taken', generation }
