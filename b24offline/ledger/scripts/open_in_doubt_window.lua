-- Before an `error` call is sent: nothing may clear, run again or confirm these message ids until the in-doubt window
-- is over. ARGV: process id ('' = adoption, no lease needed), settle token, in-doubt ms, JSON of message ids.
-- Returns ms left of the settle lease, or 0 when another worker has it, or the ledger is on another server since: nothing
-- was noted, and nothing may be sent.
local left = 1
local noted = redis.call('HGETALL', FENCING)
for i = 1, #noted, 2 do
  local over = string.sub(noted[i], 1, 9) == 'in_doubt:' and tonumber(noted[i + 1]) <= now
  if over then redis.call('HDEL', FENCING, noted[i]) end
end
if ARGV[1] ~= '' then
  local fields = redis.call('HMGET', batch_key(ARGV[1]), 'settle_token', 'settle_until', 'settle_server')
  if fields[1] ~= ARGV[2] or tonumber(fields[2]) <= now or fields[3] ~= this_server() then return 0 end
  left = tonumber(fields[2]) - now
end
for _, message in ipairs(cjson.decode(ARGV[4])) do
  redis.call('HSET', FENCING, 'in_doubt:' .. message, now + tonumber(ARGV[3]))
end
return left
