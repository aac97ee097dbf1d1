-- Writes or deletes a document if its version is the expected one. ARGV[3] key · 4 version (0 = absent) · 5 what ('w' or
-- 'd') · 6 value. A version is never used again for its key.
-- Answers the version ({version}), or the document that is there ({} = none).
local key, expect, what, value = unpack(ARGV, 3, 6)
local there = call('HGET', P .. 'd', key)
local version = there and struct.unpack('<I6', there) or 0
if version ~= tonumber(expect) then return {REDIS_MS, 0, there} end
if what == 'w' then
  local floor = tonumber(call('GET', P .. 'dv') or 0)
  version = version == 0 and floor + 1 or version + 1
  call('HSET', P .. 'd', key, struct.pack('<I6', version) .. value)
elseif there then
  call('HDEL', P .. 'd', key)
  if version > tonumber(call('GET', P .. 'dv') or 0) then call('SET', P .. 'dv', version) end
  version = 0
end
call('SPUBLISH', P .. 'w', 'D' .. key)
return {REDIS_MS, 1, version}
