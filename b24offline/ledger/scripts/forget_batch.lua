-- open -> unknown: drops a damaged batch, so that its records are found as orphans and adopted. Its runs leave their
-- object queues; a run that another batch shares stays. ARGV: process id.
local pid = ARGV[1]
for _, text in ipairs(redis.call('HVALS', records_key(pid))) do
  for _, run in ipairs(split(cjson.decode(text).runs)) do
    local fields = redis.call('HMGET', run_key(run), 'object_queue', 'batches', 'message', 'pipeline')
    if fields[3] then redis.call('SREM', yielded_key(fields[3], fields[4]), run) end
    if fields[1] and fields[2] == pid then
      redis.call('LREM', fields[1], 0, run)
      redis.call('DEL', run_key(run))
      undue('run', run)
    elseif fields[1] then
      local others = {}
      for _, other in ipairs(split(fields[2])) do
        if other ~= pid then others[#others + 1] = other end
      end
      redis.call('HSET', run_key(run), 'batches', table.concat(others, ','))
    end
  end
end
redis.call('DEL', batch_key(pid), records_key(pid))
redis.call('ZREM', BATCHES, pid)
undue('batch', pid)
count('batches_forgotten')
return 1
