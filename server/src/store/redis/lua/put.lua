-- Records jobs. ARGV[3]: number of names, then (number, kind and name) each; number of keys, then (place among the jobs,
-- 1 idempotency, 2 uniqueness or 3 the same and the job may wait behind its holder, key, end or '' = the job holds it itself) each, the first kind first; then one letter per
-- job, 'o' = also into a full queue; then per job: id, record, body.
-- Answers per job: 0 = recorded, 2 = recorded as a successor, BLOCKED, 1 = the queue is full, the record that was there, or (1 or 2 for the key, holder, the
-- holder's record). A name whose number is another's: the number.
local at = 4
for _ = 1, tonumber(ARGV[3]) do
  local number, name = ARGV[at], ARGV[at + 1]
  local there = call('HGET', P .. 'nm', number)
  if not there then call('HSET', P .. 'nm', number, name)
  elseif there ~= name then return {REDIS_MS, number} end
  at = at + 2
end
local keys = {}
for _ = 1, tonumber(ARGV[at]) do
  local place, kind, key, ends = unpack(ARGV, at + 1, at + 4)
  keys[place] = keys[place] or {}
  table.insert(keys[place], {tonumber(kind), key, ends})
  at = at + 4
end
local overshoots = ARGV[at + 1]
at = at + 2
local ids = {}
for i = at, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
local there = call('HMGET', P .. 'm', unpack(ids))

-- The answer to a job that cannot have one of its keys.
local seen = {}
local function not_free(wanted)
  for _, each in ipairs(wanted) do
    local kind, key = each[1], each[2]
    local by, ends = holder(key)
    local last = kind == 3 and by and not ends
    by = last and call('HGET', P .. 'us', key) or by
    if by then
      local m = seen[by] or call('HGET', P .. 'm', by)
      -- It waits for the end of a job that was handed out, unless another one does.
      each.waits = last and m and m:byte(1) == 2 and struct.unpack('<I4', m, 56) > 0
      if not each.waits then return {math.min(kind, 2), by, m} end
    end
  end
end

-- The record of a job that waits for its key.
local function behind(m)
  return m:sub(1, 1) .. '\2' .. m:sub(3, 3) .. struct.pack('<I2', struct.unpack('<I2', m, 4) - 1024 + 2048) .. m:sub(6)
end

-- Room for waiting jobs, by queue.
local rooms = {}

local function has_room(queue)
  local room = rooms[queue]
  if not room then
    local most = select(5, bounds(queue))
    room = math.huge
    if most > 0 then
      room = most - tonumber(call('HGET', P .. 'n', queue .. READY) or 0)
      for _, state in ipairs({1, 2, 5}) do room = room - call('ZCARD', P .. 's:' .. queue .. ':' .. state) end
    end
  end
  rooms[queue] = room - 1
  return room > 0
end

-- A queue that gets its first job with a fairness key keeps its jobs apart from now on.
for i = at + 1, #ARGV, 3 do
  if fair_of(ARGV[i]) ~= '' then divide(queue_of(ARGV[i])) end
end

local answers, records, bodies, lists, woken = {}, {}, {}, {}, {}
local tie = ties(#ids)
for n, id in ipairs(ids) do
  local record = ARGV[at + 1]
  local wanted = keys[tostring(n)]
  local old = there[n] or seen[id] or wanted and not_free(wanted)
  if old then
    answers[n] = old
  elseif not has_room(queue_of(record)) and overshoots:byte(n) ~= 111 then
    answers[n] = 1
  else
    answers[n] = 0
    for _, each in ipairs(wanted or {}) do
      if each.waits then record, answers[n] = behind(record), 2 end
    end
    seen[id] = record
    records[#records + 1] = id
    records[#records + 1] = record
    bodies[#bodies + 1] = id
    bodies[#bodies + 1] = ARGV[at + 2]
    local queue, state = queue_of(record), record:byte(2)
    local expire = record:byte(1) == 2 and struct.unpack('<I6', record, 44) or 0
    count(queue, state, 1)
    if state == READY then
      local level, fair = record:byte(3), fair_of(record)
      local key, may_go = hints_of(queue, level, fair), true
      local list = lists[key]
      if not list then
        list = {}
        lists[key] = list
      end
      list[#list + 1] = id .. record:sub(6, 7)
      if strands_of(queue) then may_go = line_up(queue, fair, level, id) end
      if may_go and (expire == 0 or expire > WALL) then woken[queue] = true end
    else
      local ms = struct.unpack('<I6', record, 30)
      call('ZADD', P .. 's:' .. queue .. ':' .. state, ms * TIES + (tie + n) % TIES, id)
      -- BLOCKED jobs wait for no time.
      if state ~= 2 and call('ZADD', P .. 't', 'LT', 'CH', ms, queue) == 1 then note('w', ms) end
    end
    if expire ~= 0 then
      call('ZADD', P .. 'x', expire, id)
      note('w', expire)
    end
    for _, each in ipairs(wanted or {}) do
      call('HSET', P .. (each.waits and 'us' or 'u'), each[2], id .. each[3])
      if each[3] ~= '' then call('ZADD', P .. 'uy', each[3], each[2]) end
    end
  end
  at = at + 3
end
if #records > 0 then
  variadic('HSET', P .. 'm', records)
  variadic('HSET', P .. 'j', bodies)
end
for key, hints in pairs(lists) do variadic('RPUSH', key, hints) end
write_strands()
for queue in pairs(woken) do wake_queue(queue) end
write_counts()
wake_timers()
return {REDIS_MS, answers}
