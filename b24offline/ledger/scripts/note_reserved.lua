-- One page of the portal's list of reserved records: when a process id that no open batch has was seen first, and where
-- the look goes on. ARGV: JSON of the page's process ids, the record id behind which the page began, the one behind
-- which the next begins ('' = it was the last), how many of its records cannot be read.
-- Returns how many that are in the whole look; nothing, and notes nothing, when another look is further, or what was
-- seen could be of calls before the loss of the ledger.
local looked = redis.call('HMGET', LOOK, 'after', 'unreadable')
local fencing = redis.call('HMGET', FENCING, 'epoch', 'recovery_until')
if (looked[1] or '0') ~= ARGV[2] then return nil end
if not fencing[1] or tonumber(fencing[2] or '0') > now then return nil end
local page = cjson.decode(ARGV[1])
for _, pid in ipairs(page) do
  -- One of which only the name is known is dropped by the sweep first.
  if not redis.call('ZSCORE', BATCHES, pid) then
    if redis.call('EXISTS', batch_key(pid)) == 1 then
      index_batch(pid)
    else
      redis.call('HSETNX', ORPHANS, pid, now)
    end
  end
end
local unreadable = tonumber(ARGV[4])
if ARGV[2] ~= '0' then unreadable = unreadable + tonumber(looked[2] or '0') end
if ARGV[3] == '' then
  redis.call('HSET', LOOK, 'ended', now)
  redis.call('HDEL', LOOK, 'after', 'unreadable')
else
  redis.call('HSET', LOOK, 'after', ARGV[3], 'unreadable', unreadable)
end
return unreadable
