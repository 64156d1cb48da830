-- ready | running | waiting -> succeeded | failed. ARGV: run, attempt, outcome, reason, queue bound ms, settle_due ms,
-- backoff ms. A second answer, or one of a replaced attempt, changes nothing. Answers {recorded, next run, attempt, pids}.
local run = ARGV[1]
if not is_current(run, ARGV[2]) then return { 0, '', 0, {} } end
local told = conclude(run, ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]))
return { 1, told[1], told[2], told[3] }
