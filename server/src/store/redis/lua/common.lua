-- Before every script. KEYS[1] is the shard's hash tag: all keys of a call are made from it and lie in its slot.
-- ARGV[1], ARGV[2]: the time in milliseconds on the wall and on the monotonic clock; empty = Redis's own, for both.
-- The record, little-endian: format 1 (1 = never leased, ends with content; 2) · state 1 · level 1 · flags 2 · hint 2 ·
-- queue 4 · type 4 · version 4 · body bytes 4 · create 6 · ready 6 · content 8 · expire 6 · failures 4 · crashes 2 ·
-- delivery 4 · start 6 · finish 6 · purge 6 · token 8 · uniqueness key 16, with flag 1024 (held), 2048 (waited for) or both (held
-- until the start) · hash of the fairness key 8, with flag 4096, the highest byte first · expiry 6 and deadline 6, with flag
-- 8192: `expire` above is the earlier of those that count · number 2 and ids 16 of the flows that watch it, with flag 16384 · the
-- rest.
local P, call = KEYS[1] .. ':', redis.call
local time = call('TIME')
local REDIS_MS = time[1] * 1000 + math.floor(time[2] / 1000)
local WALL = tonumber(ARGV[1]) or REDIS_MS
local MONO = tonumber(ARGV[2]) or REDIS_MS
local TIES = 2048
local READY, RUNNING = 3, 4

local function state_of(m) return m:byte(2) end

-- The fairness key of a record: its hash, '' = it has none.
local function fair_of(m)
  if m:byte(1) == 1 then return '' end
  local flags = struct.unpack('<I2', m, 4)
  if bit.band(flags, 4096) == 0 then return '' end
  local at = bit.band(flags, 1024 + 2048) == 0 and 86 or 102
  return m:sub(at, at + 7)
end

local hexes = {}

-- The queue of a record, as key names have it.
local function queue_of(m)
  local bytes = m:sub(8, 11)
  local hex = hexes[bytes]
  if not hex then
    hex = string.format('%08x', (struct.unpack('<I4', bytes)))
    hexes[bytes] = hex
  end
  return hex
end

-- Entries of the indexes of time: the earliest that this call adds, by clock.
local first = {}

local function note(clock, ms)
  if not first[clock] or ms < first[clock] then first[clock] = ms end
end

-- Whoever was promised more time is told.
local function wake_timers()
  local early = false
  for clock, ms in pairs(first) do
    local promise = call('HGET', P .. 'pr', clock)
    if not promise or ms < tonumber(promise) then
      call('HSET', P .. 'pr', clock, ms)
      early = true
    end
  end
  if early then call('SPUBLISH', P .. 'w', 'T') end
end

-- READY and RUNNING jobs by queue; the other states are counted by their lists.
local counts = {}

local function count(queue, state, by)
  if state == READY or state == RUNNING then
    local field = queue .. state
    counts[field] = (counts[field] or 0) + by
  end
end

-- What a queue is held to: running jobs, starts per milliseconds, starts at once, waiting jobs (0 = no bound), ended records
-- kept, DEAD ones kept; and each fairness key of it: running jobs, starts per milliseconds, starts at once.
local function bounds(queue)
  local config = call('HGET', P .. 'qc', queue)
  if not config then return 0, 0, 0, 0, 0, MAX_FINISHED, MAX_DEAD, 0, 0, 0, 0 end
  return struct.unpack('<I4I4I6I4I6I6I6I4I4I6I4', config, 7)
end

-- What a rate of so much has left now that had `left` at `at`; whole ones, and when the next one comes.
local function refill(left, at, rate, per, burst)
  left = math.min(burst, left + math.max(0, MONO - at) * rate / per)
  local whole = math.floor(math.max(0, left + 0.000001))
  return left, math.max(MONO, at), whole, math.max(1, math.ceil((whole + 1 - left) * per / rate - 0.000001))
end

-- Ends a throttle of a whole queue, if there is one. Its rate has had nothing since then, so that this is no burst.
local function lift(queue)
  local closed = tonumber(call('HGET', P .. 'qt', queue) or nil)
  if not closed then return false end
  call('HDEL', P .. 'qt', queue)
  local _, rate = bounds(queue)
  if rate > 0 then call('HSET', P .. 'qb', queue, string.format('0:%.0f', MONO - math.max(0, WALL - closed))) end
  return true
end

-- Throttles a queue: of several such times the latest holds. Who has taken jobs of it ahead hears of it.
local function close_queue(queue, until_ms)
  if tonumber(call('HGET', P .. 'qt', queue) or 0) < until_ms then call('HSET', P .. 'qt', queue, until_ms) end
  call('SPUBLISH', P .. 'w', 'Q' .. (call('HGET', P .. 'nm', queue) or ''):sub(2))
end

-- A claim left jobs of such a queue because as many run as may.
local function wake_held(queue, running)
  if call('SISMEMBER', P .. 'qh', queue) == 0 or running >= bounds(queue) then return end
  call('SREM', P .. 'qh', queue)
  call('SADD', P .. 'aw', queue)
  call('SPUBLISH', P .. 'w', 'R' .. (call('HGET', P .. 'nm', queue) or ''):sub(2))
end

local function write_counts()
  for field, by in pairs(counts) do
    if by ~= 0 then
      local now = call('HINCRBY', P .. 'n', field, by)
      if by < 0 and field:byte(9) == 48 + RUNNING then wake_held(field:sub(1, 8), now) end
    end
  end
end

-- Jobs have become READY: says so if nobody was told since a claim found nothing, or none was READY before.
local function wake_queue(queue)
  if call('HEXISTS', P .. 'qp', queue) == 1 then return end
  local before = tonumber(call('HGET', P .. 'n', queue .. READY) or 0)
  if call('SADD', P .. 'aw', queue) == 1 or before <= 0 then
    call('SPUBLISH', P .. 'w', 'R' .. (call('HGET', P .. 'nm', queue) or ''):sub(2))
  end
end

-- Places by time: the millisecond above, arrival below it.
local function ties(n) return call('INCRBY', P .. 'sq', n) - n end

-- Who has a key: the id, and until when in milliseconds, if the job does not hold it itself.
local function holder(key)
  local held = call('HGET', P .. 'u', key)
  local ends = held and tonumber(held:sub(17))
  if held and (not ends or ends > WALL) then return held:sub(1, 16), ends end
end

local function release(key, id)
  local by, ends = holder(key)
  if by ~= id or ends then return false end
  call('HDEL', P .. 'u', key)
  return true
end

local function variadic(command, key, list)
  for i = 1, #list, 4000 do call(command, key, unpack(list, i, math.min(i + 3999, #list))) end
end
