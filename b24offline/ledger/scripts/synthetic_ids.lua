-- Record ids of events without a record: each greater than all before it, also after the ledger was lost.
-- ARGV: how many.
-- Returns the first, in microseconds of the server's clock; the caller makes them negative.
local key, many = SYNTHETIC_IDS, tonumber(ARGV[1])
local first = math.max(tonumber(redis.call('GET', key) or '0') + 1, time[1] * 1000000 + time[2])
redis.call('SET', key, string.format('%.0f', first + many - 1))
return string.format('%.0f', first)
