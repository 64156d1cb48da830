-- Put before every transition. KEYS[1] is the portal's key stem, `<prefix>:{<portal>}`; all keys of one portal share
-- its hash tag, so a script may build them. The server's clock is the only clock of the ledger (milliseconds).
local stem = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local DUE = stem .. ':due'
local BATCHES = stem .. ':batches'
local GUARD = stem .. ':guard'
local STATS = stem .. ':stats'
local FINAL = { succeeded = true, failed = true, superseded = true }

local function run_key(run) return stem .. ':run:' .. run end
local function batch_key(pid) return stem .. ':batch:' .. pid end
local function records_key(pid) return stem .. ':batch:' .. pid .. ':records' end
local function tomb_key(pid) return stem .. ':tomb:' .. pid end
local function wait_key(mailbox) return stem .. ':wait:' .. string.sub(mailbox, #stem + 7) end
local function count(field, by) redis.call('HINCRBY', STATS, field, by or 1) end
local function due(kind, name, at) redis.call('ZADD', DUE, at, kind .. ':' .. name) end
local function undue(kind, name) redis.call('ZREM', DUE, kind .. ':' .. name) end

local function split(text)
  local parts = {}
  for part in string.gmatch(text or '', '[^,]+') do parts[#parts + 1] = part end
  return parts
end

-- How long a mailbox still waits after a failure, in ms. It holds for runs that arrive after the failure, too.
local function backoff_left(mailbox)
  return math.max(0, tonumber(redis.call('GET', wait_key(mailbox)) or '0') - now)
end

-- How long a message may wait in a queue before the run is handed out again. It grows with the attempts: under a backlog
-- deeper than the bound, a fixed one would make every message stale before it is read.
local function queue_bound(bound, attempt) return bound * math.min(attempt, 8) end

-- Hands a run out: the one place where an attempt token is made. Only the head of a mailbox may run.
-- Answers the new attempt, or nil where the run has to wait for another one.
local function hand_out(run, bound)
  local key = run_key(run)
  local mailbox = redis.call('HGET', key, 'mailbox')
  if not mailbox or redis.call('LINDEX', mailbox, 0) ~= run then return nil end
  local attempt = redis.call('HINCRBY', key, 'attempt', 1)
  redis.call('HSET', key, 'state', 'ready', 'position', '-1')
  due('run', run, now + queue_bound(bound, attempt))
  return attempt
end

-- Writes an outcome, frees the mailbox and tells who comes next. `backoff` delays the next run of this object and
-- pipeline, so that an object that always fails and always changes makes no hot loop.
local function conclude(run, outcome, reason, bound, settle_due, backoff)
  local key = run_key(run)
  local fields = redis.call('HMGET', key, 'mailbox', 'batches')
  redis.call('HSET', key, 'state', outcome, 'reason', reason)
  undue('run', run)
  count('runs_' .. outcome)
  local next_run, next_attempt = '', 0
  if fields[1] then
    redis.call('LREM', fields[1], 0, run)
    if backoff > 0 then redis.call('SET', wait_key(fields[1]), now + backoff, 'PX', backoff) end
    local head = redis.call('LINDEX', fields[1], 0)
    if head and redis.call('HGET', run_key(head), 'state') == 'ready' then
      if backoff > 0 then
        due('run', head, now + backoff)
      else
        next_attempt = hand_out(head, bound)
        next_run = head
      end
    end
  end
  local settleable = {}
  for _, pid in ipairs(split(fields[2])) do
    if redis.call('EXISTS', batch_key(pid)) == 1 then
      if redis.call('HINCRBY', batch_key(pid), 'pending', -1) <= 0 then
        due('batch', pid, now + settle_due)
        settleable[#settleable + 1] = pid
      end
    end
  end
  return { next_run, next_attempt, settleable }
end
