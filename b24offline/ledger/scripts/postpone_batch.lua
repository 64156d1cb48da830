-- open -> open: the objects of a batch cannot be read yet, so its runs are not late yet. Only runs that were never
-- handed out. ARGV: process id, delay ms (the wait and a bound for the dispatch that follows it). Returns how many
-- were postponed.
local postponed = 0
for _, run in ipairs(runs_of(ARGV[1])) do
  local fields = redis.call('HMGET', run_key(run), 'state', 'tries')
  if fields[1] == 'ready' and fields[2] == '0' then
    due('run', run, now + tonumber(ARGV[2]))
    postponed = postponed + 1
  end
end
return postponed
