-- open -> open, after the loss of a key that tells which batches are open: finds them again.
-- ARGV: JSON of the process ids that may be open. No ids: they all were found, and are counted anew, in one step.
-- Returns 1.
local found = cjson.decode(ARGV[1])
for _, pid in ipairs(found) do
  if redis.call('EXISTS', batch_key(pid)) == 1 then index_batch(pid) end
end
if #found > 0 then return 1 end
redis.call('DEL', OPEN)
for _, pid in ipairs(redis.call('ZRANGE', BATCHES, 0, -1)) do
  if redis.call('EXISTS', batch_key(pid)) == 1 then count_open(pid, 1) end
end
return 1
