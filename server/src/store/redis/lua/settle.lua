-- Sets right what is kept of a strand. ARGV[3] queue · 4 fairness key · 5, 6 by how much its READY and RUNNING jobs are more
-- than it says; the difference stays right while servers go on. It is put where it then belongs.
local queue, fair = ARGV[3], ARGV[4]
divide(queue)
local s = strand_of(queue, fair)
s.ready, s.running = math.max(0, s.ready + ARGV[5]), math.max(0, s.running + ARGV[6])
call('LREM', P .. 'kr:' .. queue, 0, fair)
call('ZREM', P .. 'kp:' .. queue, fair)
call('ZREM', P .. 'ki', queue .. fair)
s.levels, s.seat, s.credit = 511, AWAY, 0
seat(s)
write_strands()
if s.seat == RING then wake_queue(queue) end
return {REDIS_MS, 1}
