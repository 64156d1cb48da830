-- open -> settling: takes the settle lease. ARGV: process id, token, lease ms, in-doubt ms.
-- Replies 'gone', 'busy', 'damaged' (the key of a run is missing), or {process_id, token, now_ms, first_seen_ms,
-- outcomes = {record id = outcome}, events = {record id = event}}.
-- A record's outcome is that of all its runs: failed if one failed, unfinished while one is not final, else succeeded.
local pid = ARGV[1]
local key = batch_key(pid)
local fields = redis.call('HMGET', key, 'first_seen', 'settle_until')
if not fields[1] then return cjson.encode('gone') end
if fields[2] and tonumber(fields[2]) > now then
  redis.call('HSET', key, 'settle_again', 1)
  return cjson.encode('busy')
end
forget_other_server(tonumber(ARGV[4]))
local fencing = redis.call('HMGET', FENCING, 'epoch', 'in_doubt_all')
if not is_synthetic(pid) and not fencing[1] and not fencing[2] then
  -- The fencing hash was lost alone, and no poll has noticed it yet.
  all_in_doubt(tonumber(ARGV[4]))
end
redis.call('HDEL', key, 'settle_again')
redis.call('HSET', key, 'settle_token', ARGV[2], 'settle_until', now + tonumber(ARGV[3]),
  'settle_server', this_server())
local records = redis.call('HGETALL', records_key(pid))
local outcomes, events = {}, {}
for i = 1, #records, 2 do
  local record = cjson.decode(records[i + 1])
  local outcome = record.skip ~= '' and record.skip or 'succeeded'
  for _, run in ipairs(split(record.runs)) do
    local state = redis.call('HGET', run_key(run), 'state')
    if not state then return cjson.encode('damaged') end
    if not FINAL[state] then
      -- A run that lost its due time would stay unfinished for ever.
      if not redis.call('ZSCORE', DUE, 'run:' .. run) then due('run', run, now) end
      outcome = 'unfinished'
      break
    elseif state == 'failed' then
      outcome = 'failed'
    end
  end
  outcomes[records[i]], events[records[i]] = outcome, record.event
end
return cjson.encode({
  process_id = pid, token = ARGV[2], now_ms = now, first_seen_ms = fields[1], outcomes = outcomes, events = events,
})
