-- What monitoring looks at, of one portal; changes nothing. ARGV: most batches and most entries of DUE to look at, then
-- keys of what is kept beside them: lanes that are full, calls, jobs (hashes); unreadable records, oversized, refused
-- events, reconciliation, bytes of cached objects (texts).
-- Replies one object: see `Reading`. Hashes as lists of fields and values.
local most_batches, most_due = tonumber(ARGV[1]), tonumber(ARGV[2])
local batches = {}
for _, pid in ipairs(redis.call('ZRANGE', BATCHES, 0, most_batches - 1)) do
  local fields = redis.call('HMGET', batch_key(pid), 'kind', 'first_seen', 'opened', 'redriven')
  if fields[1] then
    batches[#batches + 1] = {
      process_id = pid, kind = fields[1], seen_ms = fields[4] or fields[2], opened_ms = fields[3],
    }
  end
end

local runs, overdue, sent = {}, 0, nil
local dues = redis.call('ZRANGE', DUE, 0, most_due - 1, 'WITHSCORES')
for i = 1, #dues, 2 do
  local run = string.match(dues[i], '^run:(.*)$')
  local fields = run and redis.call('HMGET', run_key(run), 'state', 'sent', 'object_queue')
  if run and tonumber(dues[i + 1]) <= now then overdue = overdue + 1 end
  if fields and fields[1] then
    runs[fields[1]] = (runs[fields[1]] or 0) + 1
    -- One that is not the head of its object queue was handed out once, and waits for another run since.
    local handed = fields[1] == 'ready' and fields[2] and redis.call('LINDEX', fields[3], 0) == run
    if handed then sent = math.min(sent or now, tonumber(fields[2])) end
  end
end

return cjson.encode({
  now_ms = now, batches = batches, runs = runs, overdue_runs = overdue, oldest_sent_ms = sent,
  unread = math.max(0, redis.call('ZCARD', BATCHES) - most_batches) + math.max(0, redis.call('ZCARD', DUE) - most_due),
  counters = redis.call('HGETALL', STATS), open_counts = redis.call('HGETALL', OPEN),
  orphans_ms = redis.call('HVALS', ORPHANS), nacked_ms = redis.call('HVALS', NACKED),
  looked_ms = redis.call('HGET', LOOK, 'ended'), full = redis.call('HGETALL', ARGV[3]),
  calls = redis.call('HGETALL', ARGV[4]), jobs = redis.call('HGETALL', ARGV[5]),
  unreadable = redis.call('GET', ARGV[6]), oversized = redis.call('GET', ARGV[7]), refused = redis.call('GET', ARGV[8]),
  reconciled = redis.call('GET', ARGV[9]), cached_bytes = redis.call('GET', ARGV[10]),
})
