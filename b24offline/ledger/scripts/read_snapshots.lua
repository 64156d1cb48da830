-- ARGV: names of objects. Returns {now, the server that answers, {text of each snapshot, or false}}.
local texts = {}
for i, name in ipairs(ARGV) do texts[i] = redis.call('GET', snapshot_key(name)) end
return { now, this_server(), texts }
