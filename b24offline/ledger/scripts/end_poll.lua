-- requested -> due: gives the poll lease back, after an answer that is known. ARGV: token. Answers 1 or 0.
if redis.call('HGET', GUARD, 'poll_token') ~= ARGV[1] then return 0 end
redis.call('HDEL', GUARD, 'poll_token', 'poll_until')
return 1
