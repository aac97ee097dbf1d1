-- Changes records, each only if it is still what the change was decided on. Per change: id, old record, new record ('' =
-- the job goes), condition ('' = none, 1 = the lease has run out, else a uniqueness key that must be free), number of
-- moves, then the moves: (what, key, value) each.
-- Answers per change: 1 = done · 2 = the lease has not run out · (holder of the key) · the record as it is, 0 = there is
-- none.
local at, changes, ids = 3, {}, {}
while at <= #ARGV do
  local moves = tonumber(ARGV[at + 4])
  changes[#changes + 1] = at
  ids[#ids + 1] = ARGV[at]
  at = at + 5 + moves * 3
end
local now = {}
for i, record in ipairs(call('HMGET', P .. 'm', unpack(ids))) do now[ids[i]] = record end
local tie = ties(#ids)

-- Moves of the same kind on the same key go together; kinds in this order, so that what is taken out is not put in again.
local KINDS = {
  zrem = 'ZREM', hdel = 'HDEL', zadd = 'ZADD', hset = 'HSET', rpush = 'RPUSH', lpush = 'LPUSH', del = 'DEL', emit = 'XADD',
}
local ORDER = {'zrem', 'hdel', 'del', 'zadd', 'hset', 'rpush', 'lpush'}
local batch = {}
for _, kind in ipairs(ORDER) do batch[kind] = {} end
local function add(kind, key, a, b)
  local lists = batch[kind]
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  list[#list + 1] = a
  if b then list[#list + 1] = b end
end
local function flush()
  for _, kind in ipairs(ORDER) do
    for key, list in pairs(batch[kind]) do
      if kind == 'del' then call('DEL', P .. key) else variadic(KINDS[kind], P .. key, list) end
    end
    batch[kind] = {}
  end
end

local woken, started, ended, stopping, answers, touched = {}, {}, {}, {}, {}, {}

local does = {
  -- Out of a list by time or an index.
  ['-'] = function(id, key) add('zrem', key, id) end,
  -- Into an index, at this time exactly; a lease never ends earlier than it did.
  ['+'] = function(id, key, value)
    if key == 'l' then
      local old = call('ZSCORE', P .. 'l', id)
      if old and tonumber(old) > tonumber(value) then return end
      note('m', tonumber(value))
    else
      note('w', tonumber(value))
    end
    add('zadd', key, value, id)
  end,
  -- Into a list by time, after what is there of the same millisecond.
  t = function(id, key, value, n)
    add('zadd', key, tonumber(value) * TIES + (tie + n) % TIES, id)
    local queue, state = key:sub(3, 10), tonumber(key:sub(12))
    if state == 1 or state == 5 then started[queue] = math.min(started[queue] or math.huge, tonumber(value))
    elseif state > 5 then ended[queue .. ':' .. (state == 7 and 7 or 6)] = true end
  end,
  -- From one list by time to the same place in another.
  m = function(id, key, value)
    add('zadd', value, call('ZSCORE', P .. key, id) or 0, id)
    add('zrem', key, id)
    started[value:sub(3, 10)] = 0
  end,
  -- To the end or the front of a READY list.
  r = function(id, key, value) add('rpush', key, id .. value) end,
  f = function(id, key, value)
    add('lpush', key, id .. value)
    call('HINCRBY', P .. 'hd', key:sub(3, 10) .. key:sub(12), -1)
  end,
  -- A part of the record: set, forgotten, a key of its own deleted.
  s = function(id, key, value) add('hset', key, id, value) end,
  a = function(id, key, value) add('hset', key, id .. value:sub(1, 4), value:sub(5)) end,
  d = function(id, key, value) add('hdel', key, id .. value) end,
  D = function(id, key) add('del', key .. id, id) end,
  -- A uniqueness key: let go, taken.
  k = function(id, _, value) release(value, id) end,
  K = function(id, _, value) call('HSET', P .. 'u', value, id) end,
  -- The queue has work, its worker must stop, something is to be done elsewhere.
  w = function(_, key) woken[key] = true end,
  c = function(id) stopping[#stopping + 1] = id end,
  e = function(_, _, value) call('XADD', P .. 'ob', '*', 'e', value) end,
}

for n, from in ipairs(changes) do
  local id, old, new, condition, moves = unpack(ARGV, from, from + 4)
  if now[id] ~= old then
    answers[n] = now[id] or 0
  elseif condition == '1' and tonumber(call('ZSCORE', P .. 'l', id) or 0) > MONO then
    answers[n] = 2
  elseif #condition > 1 and holder(condition) then
    answers[n] = {(holder(condition))}
  else
    -- A job that is changed twice in one call: what the first did must be there for the second.
    if touched[id] then flush() end
    touched[id] = true
    answers[n] = 1
    if new ~= old then
      count(queue_of(old), state_of(old), -1)
      if new == '' then
        now[id] = false
        add('hdel', 'm', id)
      else
        now[id] = new
        count(queue_of(new), state_of(new), 1)
        add('hset', 'm', id, new)
      end
    end
    for i = from + 5, from + 2 + tonumber(moves) * 3, 3 do does[ARGV[i]](id, ARGV[i + 1], ARGV[i + 2], n) end
  end
end
flush()
for queue in pairs(woken) do wake_queue(queue) end
write_counts()
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
  if kept > (dead and MAX_DEAD or MAX_FINISHED) then
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
