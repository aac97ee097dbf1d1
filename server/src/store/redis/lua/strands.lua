-- Fairness keys. `ko` has the queues whose jobs are kept apart by them: a job had one, or bounds are also for each. A strand
-- is what one key of such a queue has READY and RUNNING; '' are the jobs that have none, whose hints stay where they always
-- were. Those that may go stand in the ring `kr`. Held ones (as many run as may) and parked ones (no token left, throttled)
-- are in `kp`, by the time when they are looked at again. One that has no jobs is forgotten at once, or stays in `ki` while
-- its rate or throttle must not be forgotten: until it is met again after that time, or `due` sweeps it.
-- `k:` has strands as: seat 1 · READY 4 · RUNNING 4 · credit 2 · picks modulo 16 1 · levels that may have hints 2, and if
-- need be: throttled until 6 · tokens left 8 · at 6. `kz:` has READY jobs of a level over all strands, by arrival.
local AWAY, RING, HELD, PARKED, IDLE = 0, 1, 2, 3, 4
local NEVER = 2 ^ 50
local MOST_AT_ONCE = 1000
local strands, each, arrivals, eased = {}, {}, {}, {}

local function hints_of(queue, level, fair) return P .. 'q:' .. queue .. ':' .. level .. fair end

-- The strands of a queue that this call has met; nil = its jobs are not kept apart.
local function strands_of(queue)
  if strands[queue] == nil then strands[queue] = call('HEXISTS', P .. 'ko', queue) == 1 and {} end
  return strands[queue] or nil
end

-- What each key of a queue is held to.
local function each_of(queue)
  if not each[queue] then
    local max_running, rate, per, burst = select(8, bounds(queue))
    each[queue] = {max_running = max_running, rate = rate, per = per, burst = burst}
  end
  return each[queue]
end

local function read_strand(queue, fair, packed)
  local s = {queue = queue, fair = fair, seat = AWAY, ready = 0, running = 0, credit = 0, picks = 0, levels = 0, closed = 0}
  if fair == '' then s.levels = 511 end
  if packed then
    s.packed = packed
    local seat, ready, running, credit, picks, levels = struct.unpack('<BI4I4I2BI2', packed)
    if seat == IDLE and tonumber(call('ZSCORE', P .. 'ki', queue .. fair) or 0) <= MONO then
      call('ZREM', P .. 'ki', queue .. fair)
    else
      s.seat, s.ready, s.running, s.credit, s.picks, s.levels = seat, ready, running, credit, picks, levels
      if #packed > 14 then s.closed, s.left, s.at = struct.unpack('<I6dI6', packed, 15) end
    end
  end
  strands[queue][fair] = s
  return s
end

local function strand_of(queue, fair)
  return strands_of(queue)[fair] or read_strand(queue, fair, call('HGET', P .. 'k:' .. queue, fair))
end

-- How many jobs of a strand may start now, and after how long its rate lets one more through, if that is what stops it.
local function admit(s, want)
  local to, wait = each_of(s.queue), nil
  if to.max_running > 0 then want = math.min(want, math.max(0, to.max_running - s.running)) end
  if to.rate > 0 then
    local whole, later
    s.left, s.at, whole, later = refill(s.left or to.burst, s.at or MONO, to.rate, to.per, to.burst)
    if whole < want then want, wait = whole, later end
  end
  return want, wait
end

-- Puts a strand where it belongs until `at`.
local function sit(s, seat, at)
  local was = s.seat
  if was == seat and not at then return end
  if was == RING then call('LREM', P .. 'kr:' .. s.queue, 0, s.fair)
  elseif was == HELD or was == PARKED then call('ZREM', P .. 'kp:' .. s.queue, s.fair)
  elseif was == IDLE then call('ZREM', P .. 'ki', s.queue .. s.fair) end
  if seat == RING then call('RPUSH', P .. 'kr:' .. s.queue, s.fair)
  elseif seat == HELD or seat == PARKED then call('ZADD', P .. 'kp:' .. s.queue, at or NEVER, s.fair)
  elseif seat == IDLE then call('ZADD', P .. 'ki', at, s.queue .. s.fair) end
  s.seat = seat
  if seat ~= RING then s.credit = 0 end
end

-- Finds the place that fits what a strand has now. Whether its rate lets it go is seen when its turn comes.
local function seat(s)
  local to = each_of(s.queue)
  if s.closed <= WALL then s.closed = 0 end
  local opens = s.closed > 0 and MONO + s.closed - WALL
  if s.ready > 0 then
    if opens then sit(s, PARKED, opens)
    elseif to.max_running > 0 and s.running >= to.max_running then sit(s, HELD)
    else sit(s, RING) end
  elseif s.running > 0 then sit(s, AWAY)
  else
    if not opens and to.rate > 0 and s.left then
      local full = s.at + math.ceil(math.max(0, to.burst - s.left) * to.per / to.rate)
      if full > MONO then opens = full end
    end
    if opens then
      sit(s, IDLE, opens)
    else
      sit(s, AWAY)
      s.picks, s.left = 0, nil
    end
  end
end

-- A job is READY or RUNNING now. Whether claimers have to know: a strand that is held comes back by itself.
local function enter_strand(queue, fair, state)
  local s = strand_of(queue, fair)
  if state == READY then
    s.ready = s.ready + 1
    if s.seat == AWAY or s.seat == IDLE then seat(s) end
  else
    s.running = s.running + 1
    if s.seat == IDLE then seat(s) end
  end
  return s.seat ~= HELD
end

-- A job is not READY, or not RUNNING, any more.
local function leave_strand(queue, fair, state)
  local s = strand_of(queue, fair)
  if state == READY then s.ready = math.max(0, s.ready - 1) else s.running = math.max(0, s.running - 1) end
  local held = s.seat == HELD
  if held or s.ready == 0 and s.running == 0 and s.seat == AWAY then seat(s) end
  if held and s.seat == RING then eased[queue] = true end
end

-- A job stands in the READY line of its strand, at the end or at the front.
local function line_up(queue, fair, level, id, front)
  arrivals[queue] = arrivals[queue] or {ends = 0}
  table.insert(arrivals[queue], {level, id, front and call('HINCRBY', P .. 'ko', queue .. 'f', -1)})
  if not front then arrivals[queue].ends = arrivals[queue].ends + 1 end
  local s = strand_of(queue, fair)
  s.levels = bit.bor(s.levels, bit.lshift(1, level))
  return enter_strand(queue, fair, READY)
end

local function write_arrivals()
  for queue, list in pairs(arrivals) do
    local levels, last = {}, call('HINCRBY', P .. 'ko', queue .. 'e', list.ends) - list.ends
    for _, arrival in ipairs(list) do
      local level = levels[arrival[1]] or {}
      levels[arrival[1]] = level
      level[#level + 1] = arrival[3] or last
      level[#level + 1] = arrival[2]
      if not arrival[3] then last = last + 1 end
    end
    for level, entries in pairs(levels) do variadic('ZADD', P .. 'kz:' .. queue .. ':' .. level, entries) end
  end
  arrivals = {}
end

-- Nothing of a key is handed out until then; of several such times the latest holds.
local function close_strand(queue, fair, until_ms)
  local s = strand_of(queue, fair)
  if until_ms > s.closed then s.closed, s.left, s.at = until_ms, 0, MONO + until_ms - WALL end
  seat(s)
end

-- From now on the jobs of a queue are kept apart. Places of READY jobs go on behind those that are there.
local function divide(queue)
  if strands_of(queue) then return end
  local first, last = 0, 0
  for level = 0, 8 do
    local head = tonumber(call('HGET', P .. 'hd', queue .. level) or 0)
    first, last = math.min(first, head), math.max(last, head + call('LLEN', hints_of(queue, level, '')))
  end
  call('HSET', P .. 'ko', queue, last, queue .. 'e', last, queue .. 'f', first)
  strands[queue] = {}
  local s = strand_of(queue, '')
  local function counted(state)
    local field = queue .. state
    return math.max(0, tonumber(call('HGET', P .. 'n', field) or 0) + (counts[field] or 0))
  end
  s.ready, s.running = counted(READY), counted(RUNNING)
  seat(s)
end

-- Those whose time has come are looked at again. Whether that may not be all.
local function wake_strands(queue)
  local key = P .. 'kp:' .. queue
  local found = call('ZRANGE', key, '-inf', MONO, 'BYSCORE', 'LIMIT', 0, MOST_AT_ONCE)
  if #found == 0 then return false end
  call('ZREM', key, unpack(found))
  for _, fair in ipairs(found) do
    local s = strand_of(queue, fair)
    s.seat = AWAY
    seat(s)
  end
  return #found == MOST_AT_ONCE
end

-- Keeps what this call has changed. A strand that has nothing leaves nothing behind: its hints are stale.
local function write_strands()
  write_arrivals()
  for queue, all in pairs(strands) do
    local kept, gone = {}, {}
    for fair, s in pairs(all or {}) do
      if s.seat == AWAY and s.ready == 0 and s.running == 0 then
        if s.packed then gone[#gone + 1] = fair end
        for level = 0, fair == '' and -1 or 8 do
          if bit.band(s.levels, bit.lshift(1, level)) ~= 0 then call('DEL', hints_of(queue, level, fair)) end
        end
      else
        local packed = struct.pack('<BI4I4I2BI2', s.seat, s.ready, s.running, s.credit, s.picks, s.levels)
        if s.closed > 0 or s.left and each_of(queue).rate > 0 then
          packed = packed .. struct.pack('<I6dI6', s.closed, s.left or 0, s.at or 0)
        end
        if packed ~= s.packed then
          kept[#kept + 1] = fair
          kept[#kept + 1] = packed
        end
      end
    end
    variadic('HSET', P .. 'k:' .. queue, kept)
    variadic('HDEL', P .. 'k:' .. queue, gone)
  end
end

-- A claim left jobs of a key because as many of it ran as may.
local function wake_eased()
  for queue in pairs(eased) do
    if call('SISMEMBER', P .. 'qh', queue) == 0 and call('HEXISTS', P .. 'qp', queue) == 0
      and call('SADD', P .. 'aw', queue) == 1 then
      call('SPUBLISH', P .. 'w', 'R' .. (call('HGET', P .. 'nm', queue) or ''):sub(2))
    end
  end
end
