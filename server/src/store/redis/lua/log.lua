-- Appends lines to the log of a job that is there. ARGV[3] id · 4 lines kept · then the lines.
local id, keep = ARGV[3], tonumber(ARGV[4])
if call('HEXISTS', P .. 'm', id) == 0 then return {REDIS_MS, 0} end
variadic('RPUSH', P .. 'g:' .. id, {unpack(ARGV, 5)})
call('HINCRBY', P .. 'gn', id, #ARGV - 4)
call('LTRIM', P .. 'g:' .. id, -keep, -1)
return {REDIS_MS, 1}
