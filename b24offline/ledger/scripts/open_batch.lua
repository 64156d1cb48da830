-- requested -> open, or orphan -> open. One atomic step, before anything is dispatched.
-- ARGV: process id, kind, first-seen ms (0 = now: a poll, which uses its lease up; else an adoption, while its lease
-- lasts), dispatch_due ms, settle_due ms, poll lease token ('' = none),
-- payload, lane, first attempt number, counter of batches, records of one place.
-- An attempt number must never come twice for one run, also when its key is made anew: a handler that hung for long
-- would record its success for a later attempt. So each opening counts from a number of its own, 48 random bits.
-- payload: [{id, event, message, nacked, skip, runs: [{id, pipeline, object_queue}]}].
-- Returns how many runs are not final; nothing: open before, or lease lost.
local pid, kind, first_seen = ARGV[1], ARGV[2], tonumber(ARGV[3])
local dispatch_due, settle_due, lease = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
if lease ~= '' then
  local poll = redis.call('HMGET', FENCING, 'poll_token', 'poll_until')
  if poll[1] ~= lease then return nil end
  if first_seen == 0 then
    redis.call('HDEL', FENCING, 'poll_token', 'poll_until', 'intent')
  elseif tonumber(poll[2]) <= now or on_other_server() then
    return nil
  end
end
local key = batch_key(pid)
if redis.call('EXISTS', key) == 1 then return nil end
local pending = 0
local records = cjson.decode(ARGV[7])
if first_seen == 0 then first_seen = now end
-- A portal that was never polled has no fencing hash yet.
redis.call('HSETNX', FENCING, 'schema', SCHEMA)

-- A record that arrives nacked was nacked since its runs began: what they saw may be older than the change that stands
-- for it now, whatever became of them. It leaves the batches it was in, which have nothing left to do for it, and all
-- its runs start again.
local function newly_nacked(record)
  if not record.nacked then return false end
  for _, run in ipairs(record.runs) do
    if redis.call('HGET', run_key(run.id), 'nacked') == '0' then return true end
  end
  return false
end

local function leave_batches(record)
  local kept, left = {}, {}
  for _, run in ipairs(record.runs) do kept[run.id] = true end
  for _, run in ipairs(record.runs) do
    for _, old in ipairs(split(redis.call('HGET', run_key(run.id), 'batches'))) do left[old] = true end
  end
  for old in pairs(left) do
    local text = redis.call('HGET', records_key(old), record.id)
    if text then
      redis.call('HDEL', records_key(old), record.id)
      due('batch', old, now)
      for _, run in ipairs(split(cjson.decode(text).runs)) do
        local state = redis.call('HGET', run_key(run), 'state')
        if state and not FINAL[state] then count_down({ old }, 0) end
        if not kept[run] then leave_batch(run, old) end
      end
    end
  end
end

for _, record in ipairs(records) do
  local names = {}
  local restart = newly_nacked(record)
  if restart then leave_batches(record) end
  for _, run in ipairs(record.runs) do
    names[#names + 1] = run.id
    local hash = run_key(run.id)
    local state = redis.call('HGET', hash, 'state')
    if not state then
      redis.call('HSET', hash, 'state', 'ready', 'pipeline', run.pipeline, 'record', record.id,
        'batches', pid, 'object_queue', run.object_queue, 'attempt', ARGV[9], 'tries', 0, 'position', '-1',
        'failures', 0, 'crashes', 0, 'nacked', record.nacked and 1 or 0, 'seen', now, 'reason', '',
        'message', record.message)
      redis.call('RPUSH', run.object_queue, run.id)
      due('run', run.id, now + dispatch_due)
      pending = pending + 1
    elseif restart then
      -- The sweep starts it, as a retrying one. Messages of before may still be on their way: a new attempt number.
      new_attempt(hash)
      redis.call('HSET', hash, 'state', 'waiting', 'batches', pid, 'failures', 0, 'crashes', 0, 'nacked', 1,
        'seen', now, 'reason', '')
      due('run', run.id, now)
      pending = pending + 1
    else
      -- The same delivery under a second process id (overlapping reserving calls): one run serves both batches.
      redis.call('HSET', hash, 'batches', redis.call('HGET', hash, 'batches') .. ',' .. pid)
      if not FINAL[state] then pending = pending + 1 end
    end
  end
  redis.call('HSET', records_key(pid), record.id, cjson.encode({
    event = record.event, nacked = record.nacked, skip = record.skip, runs = table.concat(names, ','),
  }))
end
redis.call('HSET', key, 'kind', kind, 'lane', ARGV[8], 'first_seen', first_seen, 'opened', now,
  'pending', pending, 'size', #records, 'bytes', #ARGV[7], 'per', ARGV[11], 'places', places_of(#records, ARGV[11]))
redis.call('ZADD', BATCHES, now, pid)
count_open(pid, 1)
redis.call('HDEL', ORPHANS, pid)
due('batch', pid, now + settle_due)
count(is_synthetic(pid) and 'events_synthetic' or 'events_seen', #records)
count(ARGV[10])
return pending
