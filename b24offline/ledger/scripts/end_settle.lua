-- settling -> closed | open. ARGV: process id, token, delay ms until the next look, JSON of the record ids that need
-- nothing more on the portal. Only the holder of the lease may; a batch closes when no record is left.
-- Returns 'closed' | 'open' | 'lost'.
local pid = ARGV[1]
local key = batch_key(pid)
local fields = redis.call('HMGET', key, 'settle_token', 'settle_until')
if fields[1] ~= ARGV[2] or tonumber(fields[2]) <= now then return 'lost' end
for _, id in ipairs(cjson.decode(ARGV[4])) do
  local text = redis.call('HGET', records_key(pid), id)
  if text then
    redis.call('HDEL', records_key(pid), id)
    for _, run in ipairs(split(cjson.decode(text).runs)) do leave_batch(run, pid) end
  end
end
local left = redis.call('HLEN', records_key(pid))
if left > 0 then
  redis.call('HDEL', key, 'settle_token', 'settle_until')
  give_places_back(pid, left)
  -- An outcome that came during this settle found it busy.
  local again = redis.call('HDEL', key, 'settle_again') == 1
  due('batch', pid, again and now or now + batch_rest(pid, tonumber(ARGV[3])))
  return 'open'
end
close_batch(pid, 'closed')
return 'closed'
