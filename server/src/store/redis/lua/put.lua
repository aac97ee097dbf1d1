-- Records jobs. ARGV[3]: number of names, then (number, kind and name) each; then per job: id, record, body, start ('' =
-- READY), expiry ('' = none), claimable (1 or 0), idempotency key ('' = none) and its end, uniqueness key and its end ('' =
-- the job holds it itself).
-- Answers per job: 0 = recorded, the record that was there, or (1 or 2 for the key, holder, the holder's record). A name whose number is another's: the number.
local at = 4
for _ = 1, tonumber(ARGV[3]) do
  local number, name = ARGV[at], ARGV[at + 1]
  local there = call('HGET', P .. 'nm', number)
  if not there then call('HSET', P .. 'nm', number, name)
  elseif there ~= name then return {REDIS_MS, number} end
  at = at + 2
end
local ids = {}
for i = at, #ARGV, 10 do ids[#ids + 1] = ARGV[i] end
local there = call('HMGET', P .. 'm', unpack(ids))
-- The answer to a job that cannot have one of its keys.
local seen = {}
local function not_free(from)
  for kind = 1, 2 do
    local key = ARGV[from + kind * 2 - 2]
    local by = key ~= '' and holder(key)
    if by then return {kind, by, seen[by] or call('HGET', P .. 'm', by)} end
  end
end

local answers,  records, bodies, lists, woken = {}, {}, {}, {}, {}
local tie = ties(#ids)
for n, id in ipairs(ids) do
  local record, body, start, expire, claimable = unpack(ARGV, at + 1, at + 5)
  local old = there[n] or seen[id] or not_free(at + 6)
  if old then
    answers[n] = old
  else
    answers[n] = 0
    seen[id] = record
    records[#records + 1] = id
    records[#records + 1] = record
    bodies[#bodies + 1] = id
    bodies[#bodies + 1] = body
    local queue = queue_of(record)
    count(queue, state_of(record), 1)
    if start == '' then
      local key = P .. 'q:' .. queue .. ':' .. record:byte(3)
      lists[key] = lists[key] or {}
      table.insert(lists[key], id .. record:sub(6, 7))
      if claimable == '1' then woken[queue] = true end
    else
      local ms = tonumber(start)
      call('ZADD', P .. 's:' .. queue .. ':' .. state_of(record), ms * TIES + (tie + n) % TIES, id)
      if call('ZADD', P .. 't', 'LT', 'CH', ms, queue) == 1 then note('w', ms) end
    end
    for from = at + 6, at + 8, 2 do
      local key, ends = ARGV[from], ARGV[from + 1]
      if key ~= '' then
        call('HSET', P .. 'u', key, id .. ends)
        if ends ~= '' then call('ZADD', P .. 'uy', ends, key) end
      end
    end
    if expire ~= '' then
      call('ZADD', P .. 'x', expire, id)
      note('w', tonumber(expire))
    end
  end
  at = at + 10
end
if #records > 0 then
  variadic('HSET', P .. 'm', records)
  variadic('HSET', P .. 'j', bodies)
end
for key, hints in pairs(lists) do variadic('RPUSH', key, hints) end
for queue in pairs(woken) do wake_queue(queue) end
write_counts()
wake_timers()
return {REDIS_MS, answers}
