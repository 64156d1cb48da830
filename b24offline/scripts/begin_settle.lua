-- open -> settling: takes the settle lease. ARGV: process id, token, lease ms, quiet ms.
-- Answers {'gone'} | {'busy'} | {'damaged'} (a key of a run is missing)
-- | {'taken', now, first_seen, [id, text, outcome, id, text, outcome, ...]}.
-- A record's outcome is that of all its runs: failed if one failed, unfinished while one is not final, else succeeded.
local pid = ARGV[1]
local key = batch_key(pid)
local fields = redis.call('HMGET', key, 'first_seen', 'settle_until')
if not fields[1] then return { 'gone' } end
if fields[2] and tonumber(fields[2]) > now then
  redis.call('HSET', key, 'asked', 1)
  return { 'busy' }
end
if not is_local(pid) and not redis.call('HGET', GUARD, 'generation') and not redis.call('HGET', GUARD, 'quiet_all') then
  -- The guard was lost alone, and no poll has noticed it yet.
  all_quiet(tonumber(ARGV[4]))
end
redis.call('HDEL', key, 'asked')
redis.call('HSET', key, 'settle_token', ARGV[2], 'settle_until', now + tonumber(ARGV[3]))
local records = redis.call('HGETALL', records_key(pid))
local told = {}
for i = 1, #records, 2 do
  local record = cjson.decode(records[i + 1])
  local outcome = record.skip ~= '' and record.skip or 'succeeded'
  for _, run in ipairs(split(record.runs)) do
    local state = redis.call('HGET', run_key(run), 'state')
    if not state then return { 'damaged' } end
    if not FINAL[state] then
      -- a run that lost its due time would stay unfinished for ever
      if not redis.call('ZSCORE', DUE, 'run:' .. run) then due('run', run, now) end
      outcome = 'unfinished'
      break
    elseif state == 'failed' then
      outcome = 'failed'
    end
  end
  told[#told + 1] = records[i]
  told[#told + 1] = records[i + 1]
  told[#told + 1] = outcome
end
return { 'taken', now, tonumber(fields[1]), told }
