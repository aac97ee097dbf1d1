-- A page of the READY jobs of one priority by arrival, whatever their fairness keys. ARGV[3] queue · 4 level · 5 the first
-- place ('' = from the head) · 6 how many. Answers where it goes on ('' = that was all), and (place, hint) each; an id alone
-- is no hint: the job stands there if it is READY.
local queue, level, most = ARGV[3], ARGV[4], tonumber(ARGV[6])
local head, list = tonumber(call('HGET', P .. 'hd', queue .. level) or 0), P .. 'q:' .. queue .. ':' .. level
-- In a queue whose jobs are kept apart, places before `last` are those from before that.
local last = tonumber(call('HGET', P .. 'ko', queue) or nil)
local from = tonumber(ARGV[5] ~= '' and ARGV[5] or nil)
local first = math.max(from or head, head)
local hints = {}
if not last or first < last then
  hints = call('LRANGE', list, first - head, first - head + (last and math.min(most, last - first) or most) - 1)
end
if not last then
  local found = {}
  for i, hint in ipairs(hints) do
    found[i * 2 - 1] = first + i - 1
    found[i * 2] = hint
  end
  return {REDIS_MS, #hints == most and string.format('%.0f', first + most) or '', found}
end

local key = P .. 'kz:' .. queue .. ':' .. level
local arrived = call('ZRANGE', key, from or '-inf', '+inf', 'BYSCORE', 'LIMIT', 0, most, 'WITHSCORES')
-- Behind this one list or the other may have more.
local edge = math.huge
if #hints == most then edge = first + most - 1 end
if #arrived == 2 * most then edge = math.min(edge, tonumber(arrived[#arrived])) end
local entries = {}
for i = 1, #arrived, 2 do entries[#entries + 1] = {tonumber(arrived[i + 1]), arrived[i]} end
if #hints > 0 then
  local ids = {}
  for i, hint in ipairs(hints) do ids[i] = hint:sub(1, 16) end
  for i, known in ipairs(call('ZMSCORE', key, unpack(ids))) do
    if not known then entries[#entries + 1] = {first + i - 1, hints[i]} end
  end
end
table.sort(entries, function(a, b) return a[1] < b[1] end)
local found = {}
for _, entry in ipairs(entries) do
  if entry[1] <= edge then
    found[#found + 1] = entry[1]
    found[#found + 1] = entry[2]
  end
end
return {REDIS_MS, edge < math.huge and string.format('%.0f', edge + 1) or '', found}
