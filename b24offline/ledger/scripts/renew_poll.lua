-- requested -> requested: the poll lease begins anew, right before the reserving call is sent, whose intent is noted until
-- its answer is known. ARGV: token, lease ms.
-- Returns 1, or 0 when another poll has it, or the ledger was lost or is on another server.
if redis.call('HGET', FENCING, 'poll_token') ~= ARGV[1] or on_other_server() then return 0 end
redis.call('HSET', FENCING, 'poll_until', now + tonumber(ARGV[2]), 'intent', now)
return 1
