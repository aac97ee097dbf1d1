-- Throttles a queue, as a job of it in another shard asked. ARGV[3] queue · 4 its name · 5 until when on the wall clock.
-- Answers 1, or 0: the number is another name's.
local there = call('HGET', P .. 'nm', ARGV[3])
if there and there ~= ARGV[4] then return {REDIS_MS, 0} end
call('HSET', P .. 'nm', ARGV[3], ARGV[4])
if tonumber(ARGV[5]) > WALL then close_queue(ARGV[3], tonumber(ARGV[5])) end
return {REDIS_MS, 1}
