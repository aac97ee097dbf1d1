-- Configures a queue. ARGV[3] queue · 4 its name · 5 the version that this was decided on, '' = any up to its own · 6 the
-- configuration: version 6, what `bounds` reads, the rest; '' = none any more · then the weights of fairness keys: hash,
-- weight each.
-- Answers 1, 0 = the number is another name's, or the configuration as it is ('' = none).
local queue, name, expect, new = unpack(ARGV, 3, 6)
local there = call('HGET', P .. 'nm', queue)
if there and there ~= name then return {REDIS_MS, 0} end
call('HSET', P .. 'nm', queue, name)
local now = call('HGET', P .. 'qc', queue) or ''

local function version(config) return config == '' and 0 or (struct.unpack('<I6', config)) end

if expect ~= '' and version(now) ~= tonumber(expect) or expect == '' and new ~= '' and version(now) > version(new) then
  return {REDIS_MS, now}
end
if now == new then return {REDIS_MS, 1} end
local _, old_rate = bounds(queue)
if new == '' then call('HDEL', P .. 'qc', queue) else call('HSET', P .. 'qc', queue, new) end
local _, rate = bounds(queue)
if old_rate == 0 or rate == 0 then call('HDEL', P .. 'qb', queue) end
call('SREM', P .. 'qh', queue)
call('DEL', P .. 'kw:' .. queue)
variadic('HSET', P .. 'kw:' .. queue, {unpack(ARGV, 7)})
local to = each_of(queue)
if to.max_running > 0 or to.rate > 0 then divide(queue) end
-- Strands that are held back are looked at again: the first here, the others by the claims that come.
call('ZUNIONSTORE', P .. 'kp:' .. queue, 1, P .. 'kp:' .. queue, 'WEIGHTS', 0)
if strands_of(queue) then wake_strands(queue) end
write_strands()
call('ZADD', P .. 'v', WALL, queue)
note('w', WALL)
call('SPUBLISH', P .. 'w', 'Q' .. name:sub(2))
if call('HEXISTS', P .. 'qp', queue) == 0 and tonumber(call('HGET', P .. 'n', queue .. READY) or 0) > 0 then
  call('SADD', P .. 'aw', queue)
  call('SPUBLISH', P .. 'w', 'R' .. name:sub(2))
end
wake_timers()
return {REDIS_MS, 1}
