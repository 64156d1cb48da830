-- requested -> due: gives the poll lease back, after an answer that is known. ARGV: token. Returns 1 or 0.
if redis.call('HGET', FENCING, 'poll_token') ~= ARGV[1] then return 0 end
redis.call('HDEL', FENCING, 'poll_token', 'poll_until', 'intent')
return 1
