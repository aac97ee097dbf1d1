-- A page of a READY list. ARGV[3] queue · 4 level · 5 the first place, counted from the first that ever was ('' = from the
-- head) · 6 how many. Answers the place of the first, and the hints.
local field, list = ARGV[3] .. ARGV[4], P .. 'q:' .. ARGV[3] .. ':' .. ARGV[4]
local head = tonumber(call('HGET', P .. 'hd', field) or 0)
local skip = math.max((tonumber(ARGV[5]) or head) - head, 0)
return {REDIS_MS, head + skip, call('LRANGE', list, skip, skip + ARGV[6] - 1)}
