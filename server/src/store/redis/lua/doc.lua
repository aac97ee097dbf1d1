-- Writes or deletes documents, each if its version is the expected one. ARGV[3]: how many, then per document: key, version
-- (0 = absent), what ('w' or 'd'), value, when it is due ('' = never), number of effects, the effects (jobs for the outbox).
-- A version is never used again for its key.
-- Answers per document: (1, version), or (0, the document that is there, when it is due; both '' = none).
local at, answers = 4, {}
for n = 1, tonumber(ARGV[3]) do
  local key, expect, what, value, due, effects = unpack(ARGV, at, at + 5)
  at = at + 6
  local there = call('HGET', P .. 'd', key)
  local version = there and struct.unpack('<I6', there) or 0
  if version ~= tonumber(expect) then
    answers[n] = {0, there or '', there and call('ZSCORE', P .. 'dt', key) or ''}
  else
    if what == 'w' then
      local floor = tonumber(call('GET', P .. 'dv') or 0)
      version = version == 0 and floor + 1 or version + 1
      call('HSET', P .. 'd', key, struct.pack('<I6', version) .. value)
    elseif there then
      call('HDEL', P .. 'd', key)
      if version > tonumber(call('GET', P .. 'dv') or 0) then call('SET', P .. 'dv', version) end
      version = 0
    end
    -- Of what has a time, the one who looks after it hears when it is due.
    if due ~= '' then
      call('ZADD', P .. 'dt', due, key)
      note('w', tonumber(due))
    else
      if there then call('ZREM', P .. 'dt', key) end
      call('SPUBLISH', P .. 'w', 'D' .. key)
    end
    for i = at, at + effects - 1 do call('XADD', P .. 'ob', '*', 'e', ARGV[i]) end
    answers[n] = {1, version}
  end
  at = at + effects
end
wake_timers()
return {REDIS_MS, answers}
