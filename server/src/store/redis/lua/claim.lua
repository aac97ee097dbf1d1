-- Leases READY jobs of a queue. ARGV[3] queue · 4 end of the leases, from now · 5 started (1 or 0) · 6 how many from the
-- lowest priority · 7 bytes of bodies · 8 who claims · 9 number of the claim · 10 tokens, 8 bytes each.
-- The same number from the same claimer again: the same jobs. Answers: whether there may be more; per job: id, record, body,
-- outcome, checkpoint; and after how long a rate or a throttle, of the queue or of its keys, lets more through (-1 = it is
-- neither).
local queue, lease_ms, started = ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local bottom, room, who, number, tokens = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local want = #tokens / 8
local STALE_MOST = 1000
local LEASED, SETTLED, STARTED, BEGUN, CRASHED, OUTCOME, CHECKPOINT = 1, 2, 4, 8, 16, 32, 256
local KEY_UNTIL_STARTED, DEADLINE = 1024 + 2048, 8192
local queue_bytes = struct.pack('<I4', tonumber(queue, 16))

local function answer(ids, records, more, opens)
  local jobs = {}
  if #ids > 0 then
    local bodies = call('HMGET', P .. 'j', unpack(ids))
    for i, id in ipairs(ids) do
      local flags = struct.unpack('<I2', records[i], 4)
      local outcome = bit.band(flags, OUTCOME) ~= 0 and call('HGET', P .. 'r', id)
      local checkpoint = bit.band(flags, CHECKPOINT) ~= 0 and call('HGET', P .. 'k', id)
      jobs[i] = {id, records[i], bodies[i], outcome, checkpoint}
    end
  end
  return {REDIS_MS, more, jobs, opens or -1}
end

local last = call('GET', P .. 'c:' .. who)
if last and last:sub(1, #number + 1) == number .. ':' then
  local ids, records = {}, {}
  for at = #number + 3, #last, 16 do
    local id = last:sub(at, at + 15)
    local record = call('HGET', P .. 'm', id)
    if record then
      ids[#ids + 1] = id
      records[#records + 1] = record
    end
  end
  return answer(ids, records, tonumber(last:sub(#number + 2, #number + 2)))
end
local closed = tonumber(call('HGET', P .. 'qt', queue) or 0)
if closed > 0 and closed <= WALL then
  lift(queue)
  closed = 0
end
local paused = call('HEXISTS', P .. 'qp', queue) == 1
if paused or closed > 0 then
  call('SREM', P .. 'aw', queue)
  local waits = not paused and tonumber(call('HGET', P .. 'n', queue .. READY) or 0) > 0
  return answer({}, {}, 0, waits and closed - WALL)
end

-- What the queue's bounds let through.
local max_running, rate, per, burst = bounds(queue)
local held, opens, tokens_left, refilled_ms = false, -1, nil, MONO
if max_running > 0 then
  local free = math.max(0, max_running - tonumber(call('HGET', P .. 'n', queue .. RUNNING) or 0))
  if free < want then want, held = free, true end
end
if rate > 0 then
  local left, then_ms = (call('HGET', P .. 'qb', queue) or ''):match('^(.*):(.*)$')
  local whole, later
  tokens_left, refilled_ms, whole, later = refill(tonumber(left or burst), tonumber(then_ms or MONO), rate, per, burst)
  if whole < want then want, held, opens = whole, false, later end
end

local function expiry(m)
  if m:byte(1) == 1 or bit.band(struct.unpack('<I2', m, 4), BEGUN + DEADLINE) == BEGUN then return 0 end
  return (struct.unpack('<I6', m, 44))
end

-- READY, and this very hint is the one that stands for it.
local function is_hint(m, hint, level)
  return m and state_of(m) == READY and m:sub(6, 7) == hint:sub(17, 18) and m:byte(3) == level
    and m:sub(8, 11) == queue_bytes
end

local function can_go(m)
  local at = expiry(m)
  return at == 0 or at > WALL
end

local ids, records, heads, stale, cut = {}, {}, {}, 0, false

-- Of one list of a strand until there are `most` jobs in all. Tells whether nothing is left of it.
local function pick(level, fair, most)
  local key = hints_of(queue, level, fair)
  while #ids < most and not cut and stale < STALE_MOST do
    local hints = call('LPOP', key, most - #ids)
    if not hints then return true end
    -- Places in the lists of keys are not counted: `kz` has them.
    if fair == '' then heads[level] = (heads[level] or 0) + #hints end
    local popped = {}
    for i, hint in ipairs(hints) do popped[i] = hint:sub(1, 16) end
    local found = call('HMGET', P .. 'm', unpack(popped))
    for i, hint in ipairs(hints) do
      local m = found[i]
      if is_hint(m, hint, level) and can_go(m) then
        local bytes = struct.unpack('<I4', m, 20)
        if bytes > room and #ids > 0 then
          for back = #hints, i, -1 do call('LPUSH', key, hints[back]) end
          if fair == '' then heads[level] = heads[level] - (#hints - i + 1) end
          cut = true
          break
        end
        room = math.max(0, room - bytes)
        ids[#ids + 1] = popped[i]
        records[#records + 1] = m
      else
        stale = stale + 1
      end
    end
  end
  return false
end

-- Levels by the number that says that there are no others.
local ALONE = {}
for level = 0, 8 do ALONE[2 ^ level] = level end

-- Up to `most` jobs of those levels that may have some; the first `from_below` are looked for from below, and go where
-- they belong among the others. Answers how many, and the levels that may still have some.
local function take(fair, levels, from_below, most)
  local before = #ids
  local only = ALONE[levels]
  if only then
    if pick(only, fair, before + most) then levels = 0 end
    return #ids - before, levels
  end
  local function walk(first, last, step, until_n)
    for level = first, last, step do
      local one = bit.lshift(1, level)
      if bit.band(levels, one) ~= 0 and #ids < until_n and pick(level, fair, until_n) then levels = levels - one end
    end
  end
  walk(8, 0, -1, before + math.min(from_below, most))
  local below = #ids - before
  walk(0, 8, 1, before + most)
  if below > 0 then
    -- By priority, each in the order in which it was picked: what came from below is the first of its own.
    local places = {}
    for i = before + 1, #ids do
      local level = records[i]:byte(3)
      places[level] = places[level] or {}
      table.insert(places[level], {ids[i], records[i]})
    end
    local at = before
    for level = 0, 8 do
      for _, job in ipairs(places[level] or {}) do
        at = at + 1
        ids[at], records[at] = job[1], job[2]
      end
    end
  end
  return #ids - before, levels
end

-- Whether a claim now would find a job there; hints that stand for none are dropped on the way.
local function has_more(fair, levels)
  for level = 0, 8 do
    local key = hints_of(queue, level, fair)
    while bit.band(levels, bit.lshift(1, level)) ~= 0 do
      local hint = call('LINDEX', key, 0)
      if not hint then break end
      local m = call('HGET', P .. 'm', hint:sub(1, 16))
      if stale >= STALE_MOST or is_hint(m, hint, level) and can_go(m) then return true end
      call('LPOP', key)
      if fair == '' then heads[level] = (heads[level] or 0) + 1 end
      stale = stale + 1
    end
  end
  return false
end

local rest, unknown = false, false
local keyed = strands_of(queue)
local function is_over() return cut or stale >= STALE_MOST end
if keyed then
  rest, unknown = take_turns(queue, ids, want, take, has_more, is_over)
else
  take('', 511, bottom, want)
  rest = not is_over() and #ids == want and has_more('', 511)
end
local more = 0
if unknown or is_over() then
  more, held, opens = 1, false, -1
elseif not rest then
  held, opens = false, keyed and first_to_open(queue) or -1
elseif not held and opens == -1 then
  more = 1
end
if held then call('SADD', P .. 'qh', queue) end
if tokens_left then call('HSET', P .. 'qb', queue, string.format('%.6f:%.0f', tokens_left - #ids, refilled_ms)) end
if more == 0 then call('SREM', P .. 'aw', queue) else call('SADD', P .. 'aw', queue) end
for level, popped in pairs(heads) do
  if popped ~= 0 then call('HINCRBY', P .. 'hd', queue .. level, popped) end
end
write_strands()
if #ids == 0 then return answer(ids, records, more, opens) end

local writes, leases, start, listed = {}, {}, struct.pack('<I6', WALL), {}
for i, m in ipairs(records) do
  local flags = bit.bor(bit.band(struct.unpack('<I2', m, 4), bit.bnot(SETTLED + STARTED + CRASHED)), LEASED)
  if started then flags = bit.bor(flags, STARTED + BEGUN) end
  if m:byte(1) == 1 then m = '\2' .. m:sub(2) .. string.rep('\0', 42)
  elseif expiry(m) ~= 0 then call('ZREM', P .. 'x', ids[i]) end
  if bit.band(flags, KEY_UNTIL_STARTED) == KEY_UNTIL_STARTED then
    release(m:sub(86, 101), ids[i])
    flags = flags - KEY_UNTIL_STARTED
    m = m:sub(1, 85) .. m:sub(102)
  end
  local version, delivery = struct.unpack('<I4', m, 16), struct.unpack('<I4', m, 56)
  m = '\2' .. string.char(RUNNING) .. m:sub(3, 3) .. struct.pack('<I2', flags) .. m:sub(6, 15)
    .. struct.pack('<I4', version + 1) .. m:sub(20, 55) .. struct.pack('<I4', delivery + 1) .. start
    .. m:sub(66, 77) .. tokens:sub(i * 8 - 7, i * 8) .. m:sub(86)
  records[i] = m
  if keyed then
    local level = m:byte(3)
    listed[level] = listed[level] or {}
    table.insert(listed[level], ids[i])
  end
  writes[#writes + 1] = ids[i]
  writes[#writes + 1] = m
  leases[#leases + 1] = MONO + lease_ms
  leases[#leases + 1] = ids[i]
end
variadic('HSET', P .. 'm', writes)
variadic('ZADD', P .. 'l', leases)
for level, gone in pairs(listed) do variadic('ZREM', P .. 'kz:' .. queue .. ':' .. level, gone) end
note('m', MONO + lease_ms)
count(queue, READY, -#ids)
count(queue, RUNNING, #ids)
call('SET', P .. 'c:' .. who, number .. ':' .. more .. table.concat(ids), 'EX', 60)
write_counts()
wake_timers()
return answer(ids, records, more, opens)
