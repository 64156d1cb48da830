-- What is overdue, taken by one sweep: every entry gets a new due time, so that a second sweep finds nothing.
-- ARGV: queue bound ms, settle_due ms, limit, JSON of the rules of retrying runs, age ms at which a retrying run is
-- dead-lettered. Replies {runs = to publish [{run, attempt}], batches = to settle [process id],
-- exhausted = to dead-letter [{run, attempt}], lost = whether what tells of the open batches is not whole}.
local publish, settle, exhausted, seen_batch, handed = {}, {}, {}, {}, {}
local BATCHES_A_SWEEP = 100
local rules, age = cjson.decode(ARGV[4]), tonumber(ARGV[5])

-- Whether the run may go. An object queue whose head is gone or final, or that is gone itself, must not block others.
local function first_in_line(run, object_queue)
  if not redis.call('LPOS', object_queue, run) then redis.call('RPUSH', object_queue, run) end
  local head = redis.call('LINDEX', object_queue, 0)
  while head and head ~= run do
    local state = redis.call('HGET', run_key(head), 'state')
    if state and not FINAL[state] then return false end
    redis.call('LPOP', object_queue)
    head = redis.call('LINDEX', object_queue, 0)
  end
  return true
end

-- Whether a retrying run is given up: too many attempts, or too old and failed at least once.
local function is_exhausted(run, seen, reason)
  return counted_attempts(run, rules.budget) >= rules.attempts or (reason ~= '' and now - tonumber(seen) >= age)
end

-- An open batch without a due time (its key was lost) would never be looked at again; one that is only a name would
-- count as open for ever. Each sweep looks at the next ones, as thousands may wait for a person.
local all, counts = redis.call('ZCARD', BATCHES), redis.call('HMGET', OPEN, 'all', 'looked')
local lost, looked = all ~= tonumber(counts[1] or '0'), tonumber(counts[2] or '0')
for _, pid in ipairs(redis.call('ZRANGE', BATCHES, looked, looked + BATCHES_A_SWEEP - 1)) do
  if redis.call('EXISTS', batch_key(pid)) == 1 then
    index_batch(pid)
  else
    redis.call('ZREM', BATCHES, pid)
    redis.call('DEL', records_key(pid))
    whole_from_now()
    lost = true
  end
end
if all > BATCHES_A_SWEEP then
  redis.call('HSET', OPEN, 'looked', looked + BATCHES_A_SWEEP < all and looked + BATCHES_A_SWEEP or 0)
end

for _, member in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))) do
  local kind, name = string.match(member, '^(%a+):(.*)$')
  if kind == 'batch' then
    if redis.call('EXISTS', batch_key(name)) == 1 then
      index_batch(name)
      due('batch', name, now + batch_rest(name, tonumber(ARGV[2])))
      if not seen_batch[name] then settle[#settle + 1] = name; seen_batch[name] = true end
    else
      redis.call('ZREM', DUE, member)
    end
  else
    local fields = redis.call('HMGET', run_key(name), 'state', 'object_queue', 'crashes', 'nacked', 'batches', 'record',
      'seen', 'reason', 'attempt')
    if not fields[1] or FINAL[fields[1]] then
      redis.call('ZREM', DUE, member)
    elseif not has_record(fields[5], fields[6]) then
      redis.call('LREM', fields[2], 0, name)
      redis.call('DEL', run_key(name))
      redis.call('ZREM', DUE, member)
    elseif fields[1] == 'dead_lettered'
      or (fields[4] == '1' and fields[1] ~= 'running' and is_exhausted(name, fields[7], fields[8])) then
      -- Its dead letter is written before it is dead-lettered, and looked for again while it is.
      due('run', name, now + tonumber(ARGV[2]))
      exhausted[#exhausted + 1] = handed_out(name, fields[9])
    elseif not first_in_line(name, fields[2]) then
      -- A run that had yielded its slot is handed out like all others when its turn comes.
      if fields[1] == 'waiting' then redis.call('HSET', run_key(name), 'state', 'ready') end
      due('run', name, now + tonumber(ARGV[1]))
    elseif fields[1] == 'ready' and backoff_left(fields[2]) > 0 then
      due('run', name, now + backoff_left(fields[2]))
    elseif not handed[name] then
      local crashes = tonumber(fields[3])
      if fields[1] == 'running' then
        crashes = redis.call('HINCRBY', run_key(name), 'crashes', 1)
        count('runs_crashed')
      end
      if fields[1] == 'running' and fields[4] == '1' and crashes > rules.budget then
        redis.call('HSET', run_key(name), 'reason', 'crashed')
        yield_and_wait(name, rules)
      elseif crashes >= rules.budget and fields[4] ~= '1' and fields[1] == 'running' then
        local reply = conclude(name, 'failed', 'lease expired', tonumber(ARGV[1]), tonumber(ARGV[2]), 0)
        if reply.next then
          publish[#publish + 1] = reply.next
          handed[reply.next.run] = true
        end
        for _, pid in ipairs(reply.settleable) do
          if not seen_batch[pid] then settle[#settle + 1] = pid; seen_batch[pid] = true end
        end
      else
        publish[#publish + 1] = handed_out(name, hand_out(name, tonumber(ARGV[1])))
        count('runs_swept')
      end
    end
  end
end
return cjson.encode({ runs = publish, batches = settle, exhausted = exhausted, lost = lost })
