-- Leases READY jobs of a queue. ARGV[3] queue · 4 end of the leases, from now · 5 started (1 or 0) · 6 how many from the
-- lowest priority · 7 bytes of bodies · 8 who claims · 9 number of the claim · 10 tokens, 8 bytes each.
-- The same number from the same claimer again: the same jobs. Answers: whether there may be more; per job: id, record, body,
-- outcome, checkpoint; and after how long the queue's rate lets more through (-1 = it is not the rate).
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
if call('HEXISTS', P .. 'qp', queue) == 1 then
  call('SREM', P .. 'aw', queue)
  return answer({}, {}, 0)
end

-- What the queue's bounds let through.
local max_running, rate, per, burst = bounds(queue)
local held, opens, tokens_left, refilled_ms = false, -1, nil, MONO
if max_running > 0 then
  local free = math.max(0, max_running - tonumber(call('HGET', P .. 'n', queue .. RUNNING) or 0))
  if free < want then want, held = free, true end
end
if rate > 0 then
  tokens_left = burst
  local left, then_ms = (call('HGET', P .. 'qb', queue) or ''):match('^(.*):(.*)$')
  if left then
    refilled_ms = math.max(MONO, tonumber(then_ms))
    tokens_left = math.min(burst, tonumber(left) + math.max(0, MONO - tonumber(then_ms)) * rate / per)
  end
  local whole = math.floor(math.max(0, tokens_left + 0.000001))
  if whole < want then
    opens = math.max(1, math.ceil((whole + 1 - tokens_left) * per / rate - 0.000001))
    want, held = whole, false
  end
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

local function pick(level, most)
  local key = P .. 'q:' .. queue .. ':' .. level
  while #ids < most and not cut and stale < STALE_MOST do
    local hints = call('LPOP', key, most - #ids)
    if not hints then return end
    heads[level] = (heads[level] or 0) + #hints
    local popped = {}
    for i, hint in ipairs(hints) do popped[i] = hint:sub(1, 16) end
    local found = call('HMGET', P .. 'm', unpack(popped))
    for i, hint in ipairs(hints) do
      local m = found[i]
      if is_hint(m, hint, level) and can_go(m) then
        local bytes = struct.unpack('<I4', m, 20)
        if bytes > room and #ids > 0 then
          for back = #hints, i, -1 do call('LPUSH', key, hints[back]) end
          heads[level] = heads[level] - (#hints - i + 1)
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
end

for level = 8, 0, -1 do
  if #ids < math.min(bottom, want) then pick(level, math.min(bottom, want)) end
end
local from_bottom = #ids
for level = 0, 8 do
  if #ids < want then pick(level, want) end
end

-- Whether a claim now would find a job; hints that stand for none are dropped on the way.
local function has_more()
  for level = 0, 8 do
    local key = P .. 'q:' .. queue .. ':' .. level
    while true do
      local hint = call('LINDEX', key, 0)
      if not hint then break end
      local m = call('HGET', P .. 'm', hint:sub(1, 16))
      if stale >= STALE_MOST or is_hint(m, hint, level) and can_go(m) then return true end
      call('LPOP', key)
      heads[level] = (heads[level] or 0) + 1
      stale = stale + 1
    end
  end
  return false
end

local more = (cut or stale >= STALE_MOST or #ids == want and has_more()) and 1 or 0
if more == 0 or cut or stale >= STALE_MOST then held, opens = false, -1 end
if held or opens ~= -1 then more = 0 end
if held then call('SADD', P .. 'qh', queue) end
if tokens_left then call('HSET', P .. 'qb', queue, string.format('%.6f:%.0f', tokens_left - #ids, refilled_ms)) end
if more == 0 then call('SREM', P .. 'aw', queue) else call('SADD', P .. 'aw', queue) end
for level, popped in pairs(heads) do
  if popped ~= 0 then call('HINCRBY', P .. 'hd', queue .. level, popped) end
end
if #ids == 0 then return answer(ids, records, more, opens) end

-- What came from below goes behind what came from above.
local function rotate(list)
  local turned = {}
  for i = from_bottom + 1, #list do turned[#turned + 1] = list[i] end
  for i = 1, from_bottom do turned[#turned + 1] = list[i] end
  return turned
end
ids, records = rotate(ids), rotate(records)

local writes, leases, start = {}, {}, struct.pack('<I6', WALL)
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
  writes[#writes + 1] = ids[i]
  writes[#writes + 1] = m
  leases[#leases + 1] = MONO + lease_ms
  leases[#leases + 1] = ids[i]
end
variadic('HSET', P .. 'm', writes)
variadic('ZADD', P .. 'l', leases)
note('m', MONO + lease_ms)
count(queue, READY, -#ids)
count(queue, RUNNING, #ids)
call('SET', P .. 'c:' .. who, number .. ':' .. more .. table.concat(ids), 'EX', 60)
write_counts()
wake_timers()
return answer(ids, records, more, opens)
