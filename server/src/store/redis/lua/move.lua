-- Changes records, each only if it is still what the change was decided on. Per change: id, old record, new record ('' =
-- the job goes), how, then for 'k' the key, then what else moves: (what and key, value) each. How is three parts: where the
-- job stands then (E end, F front, e f the same for one that has expired, S as it stands, M at its place in another list,
-- . nowhere), on what condition (- none, l the lease has run out, k a uniqueness key is free), and how much else moves.
-- Answers per change: 1 = done · 2 = the lease has not run out · (holder of the key) · the record as it is, 0 = there is
-- none.
local at, changes, ids = 3, {}, {}
while at <= #ARGV do
  changes[#changes + 1] = at
  ids[#ids + 1] = ARGV[at]
  local how = ARGV[at + 3]
  at = at + 4 + (how:byte(2) == 107 and 1 or 0) + 2 * how:sub(3)
end
local now = {}
for i, record in ipairs(call('HMGET', P .. 'm', unpack(ids))) do now[ids[i]] = record end
local tie = ties(#ids)

-- What goes together, by command and key, in this order: what is taken out is not put in again.
local ORDER = {'ZREM', 'HDEL', 'DEL', 'ZADD', 'HSET', 'RPUSH', 'LPUSH'}
local batch = {ZREM = {}, HDEL = {}, DEL = {}, ZADD = {}, HSET = {}, RPUSH = {}, LPUSH = {}}
-- A lease never ends earlier than it did.
local FLAG = {ZADD = {l = 'GT'}}
local function add(command, key, a, b)
  local list = batch[command][key]
  if not list then
    list = {FLAG[command] and FLAG[command][key]}
    batch[command][key] = list
  end
  list[#list + 1] = a
  if b then list[#list + 1] = b end
end
local function flush()
  for _, command in ipairs(ORDER) do
    for key, list in pairs(batch[command]) do
      if command == 'DEL' then call('DEL', P .. key) else variadic(command, P .. key, list) end
    end
    batch[command] = {}
  end
  write_arrivals()
end

-- A queue that gets a job with a fairness key keeps its jobs apart.
local function keep_apart(queue, fair)
  if fair ~= '' and not strands_of(queue) then
    flush()
    divide(queue)
  end
  return strands_of(queue)
end

local woken, started, ended, stopping, answers, touched = {}, {}, {}, {}, {}, {}

local function index(key, id, ms)
  note(key == 'l' and 'm' or 'w', ms)
  add('ZADD', key, ms, id)
end

-- Out of the list of its state. A hint stays behind and is passed over.
local function leave(id, m, queue)
  local state = m:byte(2)
  if state == RUNNING then add('ZREM', 'l', id)
  elseif state ~= READY then add('ZREM', 's:' .. queue .. ':' .. state, id)
  elseif strands_of(queue) then add('ZREM', 'kz:' .. queue .. ':' .. m:byte(3), id) end
  if state > 5 then add('ZREM', 'y', id) end
  if (state == READY or state == RUNNING) and strands_of(queue) then leave_strand(queue, fair_of(m), state) end
end

local function enter(id, m, queue, place, n)
  local state, fair = m:byte(2), fair_of(m)
  local keyed = keep_apart(queue, fair)
  if state == READY then
    local level, front, may_go = m:byte(3), place == 'F' or place == 'f', true
    add(front and 'LPUSH' or 'RPUSH', hints_of(queue, level, fair):sub(#P + 1), id .. m:sub(6, 7))
    if front and fair == '' then call('HINCRBY', P .. 'hd', queue .. level, -1) end
    if keyed then may_go = line_up(queue, fair, level, id, front) end
    if may_go and (place == 'E' or place == 'F') then woken[queue] = true end
  elseif state == RUNNING then
    if keyed then enter_strand(queue, fair, state) end
  else
    local terminal = state > 5
    local ms = struct.unpack('<I6', m, terminal and 66 or 30)
    add('ZADD', 's:' .. queue .. ':' .. state, ms * TIES + (tie + n) % TIES, id)
    if terminal then
      ended[queue .. ':' .. (state == 7 and 7 or 6)] = true
      index('y', id, (struct.unpack('<I6', m, 72)))
    elseif state ~= 2 then
      started[queue] = math.min(started[queue] or math.huge, ms)
    end
  end
end

-- To the same place in the list of another queue.
local function beside(id, old, new)
  local from = 's:' .. queue_of(old) .. ':' .. old:byte(2)
  local to = 's:' .. queue_of(new) .. ':' .. new:byte(2)
  add('ZADD', to, call('ZSCORE', P .. from, id) or 0, id)
  add('ZREM', from, id)
  started[queue_of(new)] = 0
  keep_apart(queue_of(new), fair_of(new))
end

-- The job that held a key has ended: its successor has it, and is READY, or SCHEDULED when its start lies ahead.
local function succeed(key, n)
  local heir = call('HGET', P .. 'us', key)
  if not heir then return end
  call('HDEL', P .. 'us', key)
  if touched[heir] then flush() end
  local m = call('HGET', P .. 'm', heir)
  if not m or m:byte(2) ~= 2 then return end
  local starts, hint, version = struct.unpack('<I6', m, 30), struct.unpack('<I2', m, 6), struct.unpack('<I4', m, 16)
  local later = starts > WALL
  if not later then starts, hint = WALL, (hint + 1) % 65536 end
  local new = m:sub(1, 1) .. string.char(later and 1 or READY) .. m:sub(3, 3)
    .. struct.pack('<I2', struct.unpack('<I2', m, 4) + 1024 - 2048) .. struct.pack('<I2', hint) .. m:sub(8, 15)
    .. struct.pack('<I4', (version + 1) % 4294967296) .. m:sub(20, 29) .. struct.pack('<I6', starts) .. m:sub(36)
  local queue, expire = queue_of(m), struct.unpack('<I6', m, 44)
  leave(heir, m, queue)
  enter(heir, new, queue, expire ~= 0 and expire <= WALL and 'e' or 'E', n)
  count(queue, new:byte(2), 1)
  now[heir] = new
  touched[heir] = true
  add('HSET', 'm', heir, new)
  call('HSET', P .. 'u', key, heir)
end

local does = {
  -- Out of an index, into it at this time.
  ['-'] = function(id, key) add('ZREM', key, id) end,
  ['+'] = function(id, key, value) index(key, id, tonumber(value)) end,
  -- A part of the record: set, one of several set, forgotten, a key of its own deleted.
  s = function(id, key, value) add('HSET', key, id, value) end,
  a = function(id, key, value) add('HSET', key, id .. value:sub(1, 4), value:sub(5)) end,
  d = function(id, key, value) add('HDEL', key, id .. value) end,
  D = function(id, key) add('DEL', key .. id, id) end,
  -- A uniqueness key: let go, taken, waited for no more.
  k = function(id, _, value, _, _, n) if release(value, id) then succeed(value, n) end end,
  w = function(id, _, value) if call('HGET', P .. 'us', value) == id then call('HDEL', P .. 'us', value) end end,
  K = function(id, _, value) call('HSET', P .. 'u', value, id) end,
  -- Its worker must stop; something is to be done elsewhere.
  c = function(id) stopping[#stopping + 1] = id end,
  e = function(_, kind, value) call('XADD', P .. 'ob', '*', kind == '' and 'e' or kind, value) end,
  -- Its queue is left alone until then; its fairness key is.
  q = function(_, _, value, queue) close_queue(queue, tonumber(value)) end,
  f = function(_, _, value, queue, m)
    if not strands_of(queue) then
      flush()
      divide(queue)
    end
    close_strand(queue, fair_of(m), tonumber(value))
    call('SPUBLISH', P .. 'w', 'Q' .. (call('HGET', P .. 'nm', queue) or ''):sub(2))
  end,
}

for n, from in ipairs(changes) do
  local id, old, new, how, key = unpack(ARGV, from, from + 4)
  local condition = how:byte(2)
  if now[id] ~= old then
    answers[n] = now[id] or 0
  elseif condition == 108 and tonumber(call('ZSCORE', P .. 'l', id) or 0) > MONO then
    answers[n] = 2
  elseif condition == 107 and holder(key) then
    answers[n] = {(holder(key))}
  else
    -- A job that is changed twice in one call: what the first did must be there for the second.
    if touched[id] then flush() end
    touched[id] = true
    answers[n] = 1
    local place, queue = how:sub(1, 1), queue_of(old)
    if new == '' then
      leave(id, old, queue)
      count(queue, old:byte(2), -1)
      now[id] = false
      add('HDEL', 'm', id)
    else
      if place == 'M' then beside(id, old, new)
      elseif place ~= 'S' then leave(id, old, queue) end
      if new ~= old then
        local to = new:sub(8, 11) == old:sub(8, 11) and queue or queue_of(new)
        if place ~= 'S' and place ~= 'M' then enter(id, new, to, place, n) end
        count(queue, old:byte(2), -1)
        count(to, new:byte(2), 1)
        now[id] = new
        add('HSET', 'm', id, new)
      end
    end
    local extra = from + 4 + (condition == 107 and 1 or 0)
    for i = extra, extra + 2 * how:sub(3) - 1, 2 do
      local what = ARGV[i]
      does[what:sub(1, 1)](id, what:sub(2), ARGV[i + 1], queue, old, n)
    end
  end
end
flush()
write_strands()
for queue in pairs(woken) do wake_queue(queue) end
write_counts()
wake_eased()
for queue, ms in pairs(started) do
  if ms == 0 then
    ms = math.huge
    for _, state in ipairs({1, 5}) do
      local earliest = call('ZRANGE', P .. 's:' .. queue .. ':' .. state, 0, 0, 'WITHSCORES')
      if earliest[2] then ms = math.min(ms, math.floor(earliest[2] / TIES)) end
    end
  end
  if ms < math.huge and call('ZADD', P .. 't', 'LT', 'CH', ms, queue) == 1 then note('w', ms) end
end
for group in pairs(ended) do
  local prefix, dead = P .. 's:' .. group:sub(1, 9), group:sub(10) == '7'
  local states, kept, oldest = dead and {7} or {6, 8, 9, 10}, 0, math.huge
  for _, state in ipairs(states) do kept = kept + call('ZCARD', prefix .. state) end
  local most_finished, most_dead = select(6, bounds(group:sub(1, 8)))
  if kept > (dead and most_dead or most_finished) then
    for _, state in ipairs(states) do
      local first = call('ZRANGE', prefix .. state, 0, 0, 'WITHSCORES')
      if first[2] then oldest = math.min(oldest, math.floor(first[2] / TIES)) end
    end
    local at = math.max(oldest + TOMBSTONE_MS, WALL)
    if call('ZADD', P .. 'v', 'LT', 'CH', at, group:sub(1, 8)) == 1 then note('w', at) end
  end
end
if #stopping > 0 then call('SPUBLISH', P .. 'w', 'C' .. table.concat(stopping)) end
wake_timers()
return {REDIS_MS, answers}
