-- Counts records that were acknowledged, and how long they were reserved. Changes no state. ARGV: ms when they were seen
-- first, how many, how many of them were superseded. Returns 1.
count('events_acknowledged', ARGV[2])
if ARGV[3] ~= '0' then count('events_superseded', ARGV[3]) end
observe(STATS, 'reserved', now - tonumber(ARGV[1]), tonumber(ARGV[2]))
return 1
