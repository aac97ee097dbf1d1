-- What is due, at most ARGV[3] of each kind, as (record ids), and when the next entry is. Changes nothing but what the
-- asker may rely on: whoever adds something earlier says so. Answers: leases, cancels, pauses, starts, expiries, trims,
-- crowded queues, documents as (key, time, document), length of the outbox, milliseconds until the next entry (-1 = none).
local limit, next_in = tonumber(ARGV[3]), nil

local function soonest(ms)
  if ms < 0 then ms = 0 end
  if not next_in or ms < next_in then next_in = ms end
end

local function take(key, now)
  local found = call('ZRANGE', P .. key, 0, limit, 'WITHSCORES')
  local due = {}
  for i = 1, #found, 2 do
    local at = tonumber(found[i + 1])
    if at > now or #due == limit then
      soonest(at - now)
      break
    end
    due[#due + 1] = found[i]
  end
  return due
end

-- Documents: bounded in bytes as well, but for the first.
local function docs()
  local found, due, bytes = call('ZRANGE', P .. 'dt', 0, limit, 'WITHSCORES'), {}, 0
  for i = 1, #found, 2 do
    local at = tonumber(found[i + 1])
    if at > WALL or #due == limit * 3 or bytes > 1000000 then
      soonest(at - WALL)
      break
    end
    local doc = call('HGET', P .. 'd', found[i])
    if doc then
      for _, part in ipairs({found[i], found[i + 1], doc}) do due[#due + 1] = part end
      bytes = bytes + #doc
    else
      call('ZREM', P .. 'dt', found[i])
    end
  end
  return due
end

-- (score, id) of what is due to start, by queue and state. An entry of the index may be too early: it is set right.
local function starts()
  local due, queues = {}, call('ZRANGE', P .. 't', '-inf', WALL, 'BYSCORE')
  for _, queue in ipairs(queues) do
    local first
    for _, state in ipairs({1, 5}) do
      local found = call('ZRANGE', P .. 's:' .. queue .. ':' .. state, 0, limit, 'WITHSCORES')
      for i = 1, #found, 2 do
        local ms = math.floor(found[i + 1] / TIES)
        first = math.min(first or ms, ms)
        if ms > WALL or i > limit * 2 then
          soonest(ms - WALL)
          break
        end
        due[#due + 1] = {tonumber(found[i + 1]), found[i]}
      end
    end
    if not first then call('ZREM', P .. 't', queue) else call('ZADD', P .. 't', first, queue) end
  end
  table.sort(due, function(a, b) return a[1] < b[1] end)
  local ids = {}
  for i, entry in ipairs(due) do
    if i > limit then
      soonest(0)
      break
    end
    ids[i] = entry[2]
  end
  while true do
    local queue = call('ZRANGE', P .. 't', '(' .. string.format('%.0f', WALL), '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
    if not queue[1] then break end
    local first
    for _, state in ipairs({1, 5}) do
      local found = call('ZRANGE', P .. 's:' .. queue[1] .. ':' .. state, 0, 0, 'WITHSCORES')
      if found[2] then first = math.min(first or math.huge, math.floor(found[2] / TIES)) end
    end
    if first and first <= tonumber(queue[2]) then
      soonest(first - WALL)
      break
    end
    if first then call('ZADD', P .. 't', first, queue[1]) else call('ZREM', P .. 't', queue[1]) end
  end
  return ids
end

-- Strands without jobs whose rate or throttle need not be remembered any more.
local idle = call('ZRANGE', P .. 'ki', '-inf', MONO, 'BYSCORE', 'LIMIT', 0, 500)
for _, strand in ipairs(idle) do
  call('HDEL', P .. 'k:' .. strand:sub(1, 8), strand:sub(9))
  call('ZREM', P .. 'ki', strand)
end

-- Keys whose time is over.
local ended = call('ZRANGE', P .. 'uy', '-inf', WALL, 'BYSCORE', 'LIMIT', 0, 500)
for _, key in ipairs(ended) do
  if not holder(key) then call('HDEL', P .. 'u', key) end
  call('ZREM', P .. 'uy', key)
end

local answer = {
  REDIS_MS, take('l', MONO), take('c', WALL), take('o', WALL), starts(), take('x', WALL), take('y', WALL), take('v', WALL),
  docs(), call('XLEN', P .. 'ob'), next_in or -1,
}
for clock, now in pairs({w = WALL, m = MONO}) do
  local promise = call('HGET', P .. 'pr', clock)
  if not next_in then call('HDEL', P .. 'pr', clock)
  elseif promise and now + next_in > tonumber(promise) then call('HSET', P .. 'pr', clock, now + next_in) end
end
return answer
