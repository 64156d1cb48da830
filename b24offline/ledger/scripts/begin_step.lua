-- ready | running | waiting -> running. ARGV: run, attempt, position (step * 1000000 + repeat), lease ms.
-- Replies {event, failures, retrying, seen_ms, tries, step_failures}, or nothing: finished, replaced, or the same
-- delivery once more. A late message of a run that was handed out again, and has not begun since, begins all the same.
local run, attempt, position = ARGV[1], ARGV[2], tonumber(ARGV[3])
local key = run_key(run)
local fields = redis.call('HMGET', key, 'state', 'attempt', 'position', 'batches', 'record', 'failures', 'nacked',
  'seen', 'tries', 'failures:' .. math.floor(position / 1000000), 'late', 'late_position', 'handed', 'sent',
  'first')
if not fields[1] or FINAL[fields[1]] then return nil end
local current, late, begun = tonumber(fields[2]), tonumber(fields[11]), fields[3]
if fields[2] ~= attempt then
  local given, first = tonumber(attempt), tonumber(fields[15])
  if not late or given ~= late and (not first or given < first or given > current) then return nil end
  begun = given == late and fields[12] or '-1'
end
if position <= tonumber(begun) then return nil end
local text
for _, pid in ipairs(split(fields[4])) do
  -- The last batch wins: of a record that was nacked and is retrying by now, it has the nacked event.
  text = redis.call('HGET', records_key(pid), fields[5]) or text
end
if not text then return nil end
if fields[2] == attempt and begun == '-1' and fields[14] then
  local field = begun_field(fields[4])
  if tonumber(fields[14]) > tonumber(redis.call('HGET', OPEN, field) or '0') then redis.call('HSET', OPEN, field, fields[14]) end
end
if fields[2] ~= attempt then
  redis.call('HSET', key, 'attempt', attempt, 'handed', math.max(current, tonumber(fields[13] or '0')))
end
if fields[1] == 'ready' and fields[14] then observe(STATS, 'step_queued', now - tonumber(fields[14]), 1) end
redis.call('HDEL', key, 'late', 'late_position', 'first')
redis.call('HSET', key, 'state', 'running', 'position', position)
due('run', run, now + tonumber(ARGV[4]))
return cjson.encode({
  event = cjson.decode(text).event, failures = fields[6], retrying = fields[7] == '1', seen_ms = fields[8],
  tries = fields[9] or '1', step_failures = fields[10] or '0',
})
