-- Which reserved process ids are nobody's: seen now and at least once before, long enough ago. The poll lease is in hand.
-- ARGV: JSON of the process ids that the portal lists, age ms. Sightings of ids no longer listed are forgotten.
-- Replies [{process_id, first_seen_ms}].
local listed, adopt = {}, {}
for _, pid in ipairs(cjson.decode(ARGV[1])) do
  listed[pid] = true
  if redis.call('EXISTS', batch_key(pid)) == 0 then
    local first = redis.call('HGET', SIGHTINGS, pid)
    if not first then
      redis.call('HSET', SIGHTINGS, pid, now)
    elseif now - tonumber(first) >= tonumber(ARGV[2]) then
      adopt[#adopt + 1] = { process_id = pid, first_seen_ms = first }
    end
  else
    redis.call('HDEL', SIGHTINGS, pid)
  end
end
for _, pid in ipairs(redis.call('HKEYS', SIGHTINGS)) do
  if not listed[pid] then redis.call('HDEL', SIGHTINGS, pid) end
end
return cjson.encode(adopt)
