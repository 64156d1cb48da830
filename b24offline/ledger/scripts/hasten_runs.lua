-- ready -> ready, overdue: runs whose message was lost. It is when a run that was handed out to the same lane a third of
-- that age later has begun, or when no message waits in any queue: else it may wait in a backlog, and the messages of
-- runs that are handed out at about the same time may come in any order.
-- ARGV: queue bound ms, ms from which a message counts as lost, 1 = no message waits, most runs to look at.
-- Returns how many there are.
local bound, age, hastened = tonumber(ARGV[1]), tonumber(ARGV[2]), 0
-- Behind this are waits of other kinds.
local upto = now + 8 * bound - age
for _, member in ipairs(redis.call('ZRANGEBYSCORE', DUE, '(' .. now, upto, 'LIMIT', 0, tonumber(ARGV[4]))) do
  local run = string.match(member, '^run:(.*)$')
  local fields = run and redis.call('HMGET', run_key(run), 'state', 'sent', 'tries', 'position', 'batches')
  local sent = fields and fields[1] == 'ready' and tonumber(fields[2])
  if sent and now - sent >= queue_bound(age, tonumber(fields[3])) then
    local overtaken = fields[4] == '-1' and sent + age / 3 < tonumber(redis.call('HGET', OPEN, begun_field(fields[5])) or '0')
    if ARGV[3] == '1' or overtaken then
      due('run', run, now)
      hastened = hastened + 1
    end
  end
end
return hastened
