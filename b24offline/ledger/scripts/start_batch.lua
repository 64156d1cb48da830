-- open -> dispatched: hands out the runs of a batch that were never handed out and are at the head of their object
-- queue. A run whose object queue waits after a failure is left to the sweep. ARGV: process id, queue bound ms.
-- Replies [{run, attempt}].
local handed = {}
for _, run in ipairs(runs_of(ARGV[1])) do
  local fields = redis.call('HMGET', run_key(run), 'state', 'tries', 'object_queue')
  if fields[1] == 'ready' and fields[2] == '0' then
    local wait = backoff_left(fields[3])
    local attempt = wait == 0 and hand_out(run, tonumber(ARGV[2]))
    if wait > 0 then due('run', run, now + wait) end
    if attempt then handed[#handed + 1] = handed_out(run, attempt) end
  end
end
return cjson.encode(handed)
