-- Mends what is kept besides a record while that is still the one that was looked at. ARGV[3] id · 4 record ('' = there is
-- none) · then per command: name, key, number of arguments, arguments.
-- Answers 1, or 0: the record is another one now.
local id, record, at = ARGV[3], ARGV[4], 5
if (call('HGET', P .. 'm', id) or '') ~= record then return {REDIS_MS, 0} end
while at <= #ARGV do
  local n = tonumber(ARGV[at + 2])
  call(ARGV[at], P .. ARGV[at + 1], unpack(ARGV, at + 3, at + 2 + n))
  at = at + 3 + n
end
call('SPUBLISH', P .. 'w', 'T')
return {REDIS_MS, 1}
