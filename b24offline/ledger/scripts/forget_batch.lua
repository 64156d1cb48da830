-- open -> unknown: drops a damaged batch, so that its records are found as orphans and adopted. Its runs leave their
-- object queues; a run that another batch shares stays. ARGV: process id.
local pid = ARGV[1]
for _, run in ipairs(runs_of(pid)) do leave_batch(run, pid) end
close_batch(pid, 'forgotten')
whole_from_now()
return 1
