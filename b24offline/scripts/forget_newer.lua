-- open -> unknown, of batches that a newer version wrote and an operator gives up, so that their records are
-- found as orphans and adopted. ARGV: schema, JSON of run names, JSON of process ids (runs first: an end in between leaves
-- batches that can be named again). Touches nothing of another schema.
-- Answers {batches, runs}.
local batches, runs = 0, 0
for _, run in ipairs(cjson.decode(ARGV[2])) do
  local fields = redis.call('HMGET', run_key(run), 'schema', 'mailbox')
  if fields[1] == ARGV[1] then
    if fields[2] then redis.call('LREM', fields[2], 0, run) end
    redis.call('DEL', run_key(run))
    undue('run', run)
    runs = runs + 1
  end
end
for _, pid in ipairs(cjson.decode(ARGV[3])) do
  if redis.call('HGET', batch_key(pid), 'schema') == ARGV[1] then
    redis.call('DEL', batch_key(pid), records_key(pid))
    redis.call('ZREM', BATCHES, pid)
    undue('batch', pid)
    count('batches_forgotten')
    batches = batches + 1
  end
end
return { batches, runs }
