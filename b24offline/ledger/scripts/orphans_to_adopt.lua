-- Which reserved process ids no open batch has, now and when they were first seen, long enough ago. Only under the poll
-- lease: a list that outlasted it names batches that another worker has adopted and settled since.
-- ARGV: JSON of process ids that the portal lists, age ms, token of the poll lease.
-- Replies {process id = when first seen, in ms}, or nothing: the lease is lost.
local lease = redis.call('HMGET', FENCING, 'poll_token', 'poll_until')
if lease[1] ~= ARGV[3] or tonumber(lease[2]) <= now then return nil end
local adopt = {}
for _, pid in ipairs(cjson.decode(ARGV[1])) do
  local first = redis.call('HGET', ORPHANS, pid)
  if redis.call('EXISTS', batch_key(pid)) == 1 then
    index_batch(pid)
  elseif not first then
    redis.call('HSET', ORPHANS, pid, now)
  elseif now - tonumber(first) >= tonumber(ARGV[2]) then
    adopt[pid] = first
  end
end
return cjson.encode(adopt)
