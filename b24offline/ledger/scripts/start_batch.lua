-- open -> dispatched: hands out the runs of a batch that were never handed out and are at the head of their object
-- queue. A run whose object queue waits after a failure is left to the sweep. ARGV: process id, queue bound ms.
-- Replies [{run, attempt}].
local handed = {}
for _, text in ipairs(redis.call('HVALS', records_key(ARGV[1]))) do
  for _, run in ipairs(split(cjson.decode(text).runs)) do
    local fields = redis.call('HMGET', run_key(run), 'state', 'tries', 'object_queue')
    local wait = fields[3] and backoff_left(fields[3]) or 0
    if fields[1] == 'ready' and fields[2] == '0' and wait > 0 then
      due('run', run, now + wait)
    elseif fields[1] == 'ready' and fields[2] == '0' then
      local attempt = hand_out(run, tonumber(ARGV[2]))
      if attempt then handed[#handed + 1] = handed_out(run, attempt) end
    end
  end
end
return cjson.encode(handed)
