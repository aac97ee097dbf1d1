-- Pauses or opens a queue if its pause is still the one that this was decided on. ARGV[3] queue · 4 its name · 5 pause as
-- it was ('' = none) · 6 as it shall be · 7 when that ends ('' = never) · 8 whether a throttle ends as well (1 or 0).
-- Answers 1, or the pause as it is ('' = none).
local queue, name, old, new, ends = unpack(ARGV, 3, 7)
local there = call('HGET', P .. 'nm', queue)
if there and there ~= name then return {REDIS_MS, 0} end
call('HSET', P .. 'nm', queue, name)
local now = call('HGET', P .. 'qp', queue) or ''
if now ~= old then return {REDIS_MS, now} end
local lifted = ARGV[8] == '1' and lift(queue)
if new == old and not lifted then return {REDIS_MS, 1} end
if new == '' then call('HDEL', P .. 'qp', queue) else call('HSET', P .. 'qp', queue, new) end
if ends == '' then
  call('ZREM', P .. 'o', queue)
else
  call('ZADD', P .. 'o', ends, queue)
  note('w', tonumber(ends))
end
call('SPUBLISH', P .. 'w', 'Q' .. name:sub(2))
if new == '' and tonumber(call('HGET', P .. 'n', queue .. READY) or 0) > 0 then
  call('SADD', P .. 'aw', queue)
  call('SPUBLISH', P .. 'w', 'R' .. name:sub(2))
end
wake_timers()
return {REDIS_MS, 1}
