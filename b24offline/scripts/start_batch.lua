-- open -> dispatched: hands out those runs of a batch that nobody handed out yet and whose mailbox is theirs.
-- Repeatable: a run that was handed out before is not handed out again. ARGV: process id, queue bound ms.
-- Answers [run, attempt, run, attempt, ...].
local handed = {}
for _, text in ipairs(redis.call('HVALS', records_key(ARGV[1]))) do
  for _, run in ipairs(split(cjson.decode(text).runs)) do
    local fields = redis.call('HMGET', run_key(run), 'state', 'attempt')
    if fields[1] == 'ready' and fields[2] == '0' then
      local attempt = hand_out(run, tonumber(ARGV[2]))
      if attempt then
        handed[#handed + 1] = run
        handed[#handed + 1] = attempt
      end
    end
  end
end
return handed
