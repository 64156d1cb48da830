-- ready | running | waiting -> succeeded | failed. ARGV: run, attempt, outcome, reason, queue bound ms, settle_due ms,
-- backoff ms. A second outcome, or one of a replaced attempt, changes nothing.
-- Replies {recorded, next = {run, attempt}, settleable = [process id]}.
local run = ARGV[1]
if not is_current(run, ARGV[2]) then return cjson.encode(NOT_RECORDED) end
return cjson.encode(conclude(run, ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])))
