-- Which reserved process ids no open batch has, now and when they were first seen, long enough ago. The caller holds
-- the poll lease. ARGV: JSON of the process ids that the portal lists, age ms. Ids no longer listed are forgotten.
-- Replies {process id = when first seen, in ms}.
local listed, adopt = {}, {}
for _, pid in ipairs(cjson.decode(ARGV[1])) do
  listed[pid] = true
  if redis.call('EXISTS', batch_key(pid)) == 0 then
    local first = redis.call('HGET', ORPHANS, pid)
    if not first then
      redis.call('HSET', ORPHANS, pid, now)
    elseif now - tonumber(first) >= tonumber(ARGV[2]) then
      adopt[pid] = first
    end
  else
    redis.call('HDEL', ORPHANS, pid)
  end
end
for _, pid in ipairs(redis.call('HKEYS', ORPHANS)) do
  if not listed[pid] then redis.call('HDEL', ORPHANS, pid) end
end
return cjson.encode(adopt)
