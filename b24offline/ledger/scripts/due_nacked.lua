-- Which free nacked records are due: first seen long enough ago, and no in-doubt window of their message. A repeat of
-- the event changes a record's stamp, not its first sighting: an object that keeps changing must not wait for ever.
-- ARGV: JSON of [record id, message id], wait ms. Returns the ids that are due.
local due_ids = {}
local in_doubt_all = tonumber(redis.call('HGET', FENCING, 'in_doubt_all') or '0')
for _, row in ipairs(cjson.decode(ARGV[1])) do
  local first = redis.call('HGET', NACKED, row[1])
  if not first then
    redis.call('HSET', NACKED, row[1], now)
  else
    local in_doubt = math.max(in_doubt_all, tonumber(redis.call('HGET', FENCING, 'in_doubt:' .. row[2]) or '0'))
    if now - tonumber(first) >= tonumber(ARGV[2]) and in_doubt <= now then
      due_ids[#due_ids + 1] = row[1]
    end
  end
end
return due_ids
