-- Put before every transition. KEYS[1] is the portal's key stem, `<prefix>:{<portal>}`; all keys of one portal share
-- its hash tag, so a script may build them. The server's clock is the only clock of the ledger (milliseconds).
local stem = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local DUE = stem .. ':due'
local BATCHES = stem .. ':batches'
-- How many batches are open: `all`, and those that share a gate. `looked`: how far sweeps have looked through BATCHES.
local OPEN = stem .. ':open'
local FENCING = stem .. ':fencing'
local STATS = stem .. ':stats'
local NACKED = stem .. ':nacked'
local ORPHANS = stem .. ':orphans'
local LOOK = stem .. ':look'
-- The last record id of an event without a record.
local SYNTHETIC_IDS = stem .. ':synthetic_ids'
-- Longer than a portal keeps a reserved record.
local YIELDED_SECONDS = 40 * 86400
local FINAL = { succeeded = true, failed = true, superseded = true }

-- The line before this file sets SCHEMA, the schema that this version works on. The fencing hash names that of the
-- ledger; without a fencing hash the ledger is empty or was lost.
local found_schema = redis.call('HGET', FENCING, 'schema')
if found_schema and found_schema ~= tostring(SCHEMA) then return redis.error_reply('LEDGERSCHEMA ' .. found_schema) end

local function run_key(run) return stem .. ':run:' .. run end
local function batch_key(pid) return stem .. ':batch:' .. pid end
local function records_key(pid) return stem .. ':batch:' .. pid .. ':records' end
local function wait_key(object_queue) return stem .. ':wait:' .. string.sub(object_queue, #stem + 15) end
local function snapshot_key(name) return stem .. ':snapshot:' .. name end
local function yielded_key(message, pipeline) return stem .. ':yielded:' .. message .. '|' .. pipeline end
-- Puts every message in doubt, for when it is not known any more what was sent before the fencing hash was lost.
local function all_in_doubt(ms) redis.call('HSET', FENCING, 'in_doubt_all', now + ms) end
-- The server that answers. It is another one after each start, and when a replica is promoted: then what it was told
-- last may be forgotten, in-doubt windows and leases among it.
local function this_server()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  return run .. ':' .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
-- Whether the epoch was noted on another server than the one that answers.
local function on_other_server()
  local server = redis.call('HGET', FENCING, 'server')
  return server and server ~= this_server()
end
-- On another server, epoch and poll lease are lost, and every message is in doubt.
local function forget_other_server(in_doubt_ms)
  if not on_other_server() then return end
  all_in_doubt(in_doubt_ms)
  redis.call('HDEL', FENCING, 'epoch', 'poll_token', 'poll_until')
  redis.call('HSET', FENCING, 'server', this_server())
end
-- The ledger is whole from now on only: what was forgotten may still act. See `due` in orphans.py.
local function whole_from_now() redis.call('HSET', FENCING, 'whole_since', now) end
-- Whether no portal knows of a batch.
local function is_synthetic(pid) return string.sub(pid, 1, 10) == 'synthetic:' end
local function count(field, by) redis.call('HINCRBY', STATS, field, by or 1) end
local function due(kind, name, at) redis.call('ZADD', DUE, at, kind .. ':' .. name) end
local function undue(kind, name) redis.call('ZREM', DUE, kind .. ':' .. name) end

local function split(text)
  local parts = {}
  for part in string.gmatch(text or '', '[^,]+') do parts[#parts + 1] = part end
  return parts
end

-- The runs of the records that are left of a batch.
local function runs_of(pid)
  local runs = {}
  for _, text in ipairs(redis.call('HVALS', records_key(pid))) do
    for _, run in ipairs(split(cjson.decode(text).runs)) do runs[#runs + 1] = run end
  end
  return runs
end

-- Whether a batch still holds a run's record. A run whose batch vanished can neither begin nor settle: it would block
-- its object queue for ever. Its record is an orphan on the portal and comes back.
local function has_record(batches, record)
  for _, pid in ipairs(split(batches)) do
    if redis.call('HEXISTS', records_key(pid), record) == 1 then return true end
  end
  return false
end

-- Which open batches are counted together: those of a lane, or of a kind.
local function gate_of(kind, lane) return (kind == 'polled' or kind == 'adopted') and 'lane:' .. lane or kind end

-- The field of OPEN that tells when the latest of the runs that have begun was handed out to the lane of these batches.
local function begun_field(batches)
  return 'begun:' .. (redis.call('HGET', batch_key(split(batches)[1] or ''), 'lane') or '')
end
-- Whose bytes are counted together: all new events share a quota, whatever lane they came by.
local function quota_of(kind) return 'bytes:' .. ((kind == 'polled' or kind == 'adopted') and 'new' or kind) end

-- How many places of its gate a batch takes: one for as many records as a small batch of its lane has.
local function places_of(records, per) return math.max(1, math.ceil(records / per)) end

local function count_open(pid, by)
  local fields = redis.call('HMGET', batch_key(pid), 'kind', 'lane', 'bytes', 'places')
  redis.call('HINCRBY', OPEN, gate_of(fields[1], fields[2]), by * tonumber(fields[4] or '1'))
  redis.call('HINCRBY', OPEN, quota_of(fields[1]), by * tonumber(fields[3] or '0'))
  if redis.call('HINCRBY', OPEN, 'all', by) <= 0 then redis.call('DEL', OPEN) end
end

-- A large batch of which little is left keeps no more places than that needs.
local function give_places_back(pid, left)
  local fields = redis.call('HMGET', batch_key(pid), 'kind', 'lane', 'places', 'per')
  if not fields[4] then return end
  local places, needed = tonumber(fields[3]), places_of(left, fields[4])
  if needed >= places then return end
  redis.call('HSET', batch_key(pid), 'places', needed)
  redis.call('HINCRBY', OPEN, gate_of(fields[1], fields[2]), needed - places)
end

local function change_kind(pid, kind)
  count_open(pid, -1)
  redis.call('HSET', batch_key(pid), 'kind', kind)
  count_open(pid, 1)
end

-- Puts a batch that exists back where sweeps find it, if it is not there.
local function index_batch(pid)
  redis.call('ZADD', BATCHES, 'NX', redis.call('HGET', batch_key(pid), 'opened'), pid)
  if not redis.call('ZSCORE', DUE, 'batch:' .. pid) then due('batch', pid, now) end
end

-- Ends an open batch; its runs are left to the caller.
local function close_batch(pid, how)
  if redis.call('ZREM', BATCHES, pid) == 1 and redis.call('EXISTS', batch_key(pid)) == 1 then count_open(pid, -1) end
  redis.call('DEL', batch_key(pid), records_key(pid))
  undue('batch', pid)
  count('batches_' .. how)
end

-- Takes a run out of a batch that needs it no more; with its last batch the run is gone.
local function leave_batch(run, pid)
  local fields = redis.call('HMGET', run_key(run), 'object_queue', 'batches', 'message', 'pipeline')
  local others = {}
  for _, other in ipairs(split(fields[2])) do
    if other ~= pid and redis.call('EXISTS', batch_key(other)) == 1 then others[#others + 1] = other end
  end
  if #others > 0 then
    redis.call('HSET', run_key(run), 'batches', table.concat(others, ','))
  elseif fields[1] then
    redis.call('LREM', fields[1], 0, run)
    redis.call('SREM', yielded_key(fields[3], fields[4]), run)
    redis.call('DEL', run_key(run))
    undue('run', run)
  end
end

-- How long an object queue still waits after a failure, in ms. It holds for runs that arrive after the failure, too.
local function backoff_left(object_queue)
  return math.max(0, tonumber(redis.call('GET', wait_key(object_queue)) or '0') - now)
end

-- How long a message may wait in a queue before the run is handed out again. It grows with the attempts, as each adds a
-- message to a backlog that is deeper than the bound.
local function queue_bound(bound, tries) return bound * math.max(1, math.min(tries, 8)) end

-- A run that was handed out, in a reply. Attempts go as text: cjson writes 14 digits of a number, and they may have
-- more.
local function handed_out(run, attempt) return { run = run, attempt = string.format('%.0f', attempt) } end

-- Makes a new attempt number, and all messages of before void.
local function new_attempt(key)
  local fields = redis.call('HMGET', key, 'attempt', 'handed')
  local attempt = math.max(tonumber(fields[1]), tonumber(fields[2] or '0')) + 1
  redis.call('HSET', key, 'attempt', string.format('%.0f', attempt))
  redis.call('HDEL', key, 'handed', 'late', 'late_position', 'first')
  return attempt
end

-- The oldest attempt of a run whose message may only be late, and how far it came: {} where there is none. Once the run
-- is handed out again, whichever message is read first begins: under a backlog deeper than all bounds the newest one
-- would always be handed out too late.
local function late_attempt(key)
  local fields = redis.call('HMGET', key, 'state', 'late', 'late_position', 'attempt', 'position', 'first')
  if fields[1] ~= 'ready' and fields[1] ~= 'waiting' then return {} end
  if fields[2] and fields[6] then return { 'late', fields[2], 'late_position', fields[3], 'first', fields[6] } end
  return { 'late', fields[4], 'late_position', fields[5] }
end

-- Hands a run out: the one place where an attempt token is made. Only the head of an object queue may run.
-- Returns the new attempt, or nil where the run has to wait for another one.
local function hand_out(run, bound)
  local key = run_key(run)
  local object_queue = redis.call('HGET', key, 'object_queue')
  if not object_queue or redis.call('LINDEX', object_queue, 0) ~= run then return nil end
  local late = late_attempt(key)
  local attempt = new_attempt(key)
  local tries = redis.call('HINCRBY', key, 'tries', 1)
  redis.call('HSET', key, 'state', 'ready', 'position', '-1', 'sent', now, unpack(late))
  -- Numbers between the late one and this were handed out before the late one began, and are void.
  if #late > 0 then redis.call('HSETNX', key, 'first', string.format('%.0f', attempt)) end
  due('run', run, now + queue_bound(bound, tries))
  return attempt
end

-- How long an open batch rests between two looks, in ms: longer where each record that is left has a dead-lettered run.
local function batch_rest(pid, usual)
  local rest = redis.call('HGET', batch_key(pid), 'rest')
  if not rest then return usual end
  for _, text in ipairs(redis.call('HVALS', records_key(pid))) do
    local dead_lettered = false
    for _, run in ipairs(split(cjson.decode(text).runs)) do
      dead_lettered = dead_lettered or redis.call('HGET', run_key(run), 'state') == 'dead_lettered'
    end
    if not dead_lettered then return usual end
  end
  return tonumber(rest)
end

-- Counts batches down, as one of their runs became final. Returns those that can settle.
local function count_down(pids, settle_due)
  local settleable = {}
  for _, pid in ipairs(pids) do
    if redis.call('EXISTS', batch_key(pid)) == 1 then
      if redis.call('HINCRBY', batch_key(pid), 'pending', -1) <= 0 then
        due('batch', pid, now + settle_due)
        settleable[#settleable + 1] = pid
      end
    end
  end
  return settleable
end

-- Whether a run has yielded its slot: it is outside its object queue, and only its due time brings it back.
local function has_yielded(run, state, object_queue)
  return state == 'dead_lettered' or (state == 'waiting' and not redis.call('LPOS', object_queue, run))
end

-- Writes the outcome of a run that has yielded its slot. The next sweep settles its batches.
local function conclude_yielded(run, outcome, reason)
  local fields = redis.call('HMGET', run_key(run), 'object_queue', 'batches', 'message', 'pipeline')
  redis.call('HSET', run_key(run), 'state', outcome, 'reason', reason)
  undue('run', run)
  redis.call('LREM', fields[1], 0, run)
  redis.call('SREM', yielded_key(fields[3], fields[4]), run)
  count_down(split(fields[2]), 0)
  for _, pid in ipairs(split(fields[2])) do
    if redis.call('EXISTS', batch_key(pid)) == 1 then due('batch', pid, now) end
  end
end

-- The runs of one message and pipeline that have yielded their slot: {run, record, seen, failures, crashes} each.
local function yielded_runs(key)
  local yielded = {}
  for _, run in ipairs(redis.call('SMEMBERS', key)) do
    local fields = redis.call('HMGET', run_key(run), 'state', 'record', 'seen', 'failures', 'crashes')
    if fields[1] == 'waiting' or fields[1] == 'dead_lettered' then
      yielded[#yielded + 1] = {
        run = run, record = tonumber(fields[2]), seen = tonumber(fields[3]),
        failures = tonumber(fields[4]), crashes = tonumber(fields[5]),
      }
    elseif not fields[1] or FINAL[fields[1]] then
      redis.call('SREM', key, run)
    end
  end
  return yielded
end

local function supersede(run, reason)
  conclude_yielded(run, 'superseded', reason)
  count('runs_superseded')
end

-- The reply to an outcome that came too late, or twice.
local NOT_RECORDED = { recorded = false, settleable = {} }

-- Writes an outcome, frees the object queue and replies who comes next. `backoff` delays the next run of this object
-- and pipeline, so that an object that always fails and always changes makes no hot loop.
-- A success also covers older records of the same message whose runs have yielded their slot, if this one was seen
-- after they had been reserved: what they stand for had happened when it began.
local function conclude(run, outcome, reason, bound, settle_due, backoff)
  local key = run_key(run)
  local fields = redis.call('HMGET', key, 'object_queue', 'batches', 'message', 'pipeline', 'record', 'seen')
  redis.call('HSET', key, 'state', outcome, 'reason', reason)
  undue('run', run)
  count('runs_' .. outcome)
  local following
  redis.call('LREM', fields[1], 0, run)
  if backoff > 0 then redis.call('SET', wait_key(fields[1]), now + backoff, 'PX', backoff) end
  local head = redis.call('LINDEX', fields[1], 0)
  if head and redis.call('HGET', run_key(head), 'state') == 'ready' then
    if backoff > 0 then
      due('run', head, now + backoff)
    else
      following = handed_out(head, hand_out(head, bound))
    end
  end
  local settleable = count_down(split(fields[2]), settle_due)
  local yielded = yielded_key(fields[3], fields[4])
  redis.call('SREM', yielded, run)
  for _, other in ipairs(yielded_runs(yielded)) do
    if outcome == 'succeeded' and other.record < tonumber(fields[5]) and other.seen < tonumber(fields[6]) then
      supersede(other.run, 'a newer one succeeded')
    end
  end
  return { recorded = true, next = following, settleable = settleable }
end

-- Whether this attempt may still change its run: it was not replaced, and has no outcome.
local function is_current(run, attempt)
  local fields = redis.call('HMGET', run_key(run), 'state', 'attempt')
  return fields[1] and not FINAL[fields[1]] and fields[2] == attempt
end

-- Counts an error of a run, and of the step that it is at. Returns the errors of the run.
local function count_failure(run)
  local failures = redis.call('HINCRBY', run_key(run), 'failures', 1)
  local step = math.floor(tonumber(redis.call('HGET', run_key(run), 'position') or '-1') / 1000000)
  if step >= 0 then redis.call('HINCRBY', run_key(run), 'failures:' .. step, 1) end
  return failures
end

-- How many attempts of a retrying run count: errors, and crashes beyond their budget.
local function counted_attempts(run, budget)
  local fields = redis.call('HMGET', run_key(run), 'failures', 'crashes')
  return tonumber(fields[1]) + math.max(0, tonumber(fields[2]) - budget)
end

-- Takes a retrying run out of its object queue while it waits long or is dead-lettered: newer changes of its object
-- must not wait for it. Of one message and pipeline only the newest record stays; it takes over the counts of the
-- older ones.
local function yield_slot(run)
  local fields = redis.call('HMGET', run_key(run), 'object_queue', 'message', 'pipeline', 'record')
  local first = redis.call('LINDEX', fields[1], 0) == run
  redis.call('LREM', fields[1], 0, run)
  local head = redis.call('LINDEX', fields[1], 0)
  if first and head and redis.call('HGET', run_key(head), 'state') == 'ready' then
    due('run', head, now + backoff_left(fields[1]))
  end
  local key = yielded_key(fields[2], fields[3])
  redis.call('SADD', key, run)
  redis.call('EXPIRE', key, YIELDED_SECONDS)
  local newest, record, failures, crashes = run, tonumber(fields[4]), 0, 0
  local yielded = yielded_runs(key)
  for _, other in ipairs(yielded) do
    if other.record > record then newest, record = other.run, other.record end
    failures, crashes = math.max(failures, other.failures), math.max(crashes, other.crashes)
  end
  for _, other in ipairs(yielded) do
    if other.record < record then
      supersede(other.run, 'a newer one is retrying')
      redis.call('HSET', run_key(newest), 'failures', failures, 'crashes', crashes)
    end
  end
end

-- A retrying run yields its slot and waits; a new attempt number makes its messages void, as others may run now.
-- Without `delay` (ms) it waits as long as its counted attempts ask for; an exhausted one is due at once, and the
-- sweep dead-letters it. `rules`: {budget of crashes, attempts at most, waits in ms}.
local function yield_and_wait(run, rules, delay)
  redis.call('HSET', run_key(run), 'state', 'waiting')
  new_attempt(run_key(run))
  yield_slot(run)
  if FINAL[redis.call('HGET', run_key(run), 'state')] then return end
  local attempts = counted_attempts(run, rules.budget)
  delay = delay or rules.waits[math.min(math.max(attempts, 1), #rules.waits)]
  due('run', run, attempts >= rules.attempts and now or now + delay)
end

-- As `yield_and_wait` for a retrying run; another one keeps its slot and waits for `delay`, or not at all.
local function wait_for_retry(run, rules, delay)
  if redis.call('HGET', run_key(run), 'nacked') == '1' then
    yield_and_wait(run, rules, delay)
  else
    due('run', run, now + (delay or 0))
  end
  count('runs_retried')
end
