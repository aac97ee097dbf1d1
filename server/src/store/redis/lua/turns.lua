-- Whose turn it is among the strands of a queue. The first of the ring has as many turns as it weighs and then goes to the
-- end; it stays in front between claims. Whoever may not go leaves the ring when that is seen, so it costs one look.

-- Picks up to `want` jobs into `ids`: `take` picks of a strand, `has_more` tells whether it has jobs that could be claimed,
-- `is_over` whether to stop. Answers whether there is one more that may go, and whether it was too long to find out.
local function take_turns(queue, ids, want, take, has_more, is_over)
  local key, looks = P .. 'kr:' .. queue, wake_strands(queue) and MOST_AT_ONCE or 0
  local length = call('LLEN', key)
  local read, unread, ring, at, back, turned = 0, length, {}, 1, {}, false
  local weighs = call('EXISTS', P .. 'kw:' .. queue) == 1

  local function front()
    if at > #ring then
      if unread > 0 then
        ring, at = call('LRANGE', key, read, read + 99), 1
        read, unread = read + #ring, unread - #ring
        local packed = call('HMGET', P .. 'k:' .. queue, unpack(ring))
        for i, fair in ipairs(ring) do
          if not strands_of(queue)[fair] then read_strand(queue, fair, packed[i]) end
        end
      else
        ring, at, back, turned = back, 1, {}, true
      end
    end
    return strand_of(queue, ring[at])
  end

  local function weight(s) return weighs and tonumber(call('HGET', P .. 'kw:' .. queue, s.fair) or nil) or 1 end

  -- The one in front cannot go. What it has may all have expired: then it is nowhere until that is noticed.
  local function step_out(s, open, claimable)
    at, length, looks = at + 1, length - 1, looks + 1
    if s.seat ~= RING then return end
    s.seat, s.credit = AWAY, 0
    if open and claimable then
      local _, wait = admit(s, 1)
      sit(s, wait and PARKED or HELD, wait and MONO + wait)
    elseif not open or s.ready == 0 then
      seat(s)
    end
  end

  local function goes_on() return length > 0 and looks < MOST_AT_ONCE and not is_over() end

  while #ids < want and goes_on() do
    local s = front()
    local open, got = s.seat == RING and s.closed <= WALL, 0
    local most = open and admit(s, want - #ids) or 0
    if most > 0 then
      if s.credit == 0 then s.credit = weight(s) end
      if length > 1 then most = math.min(most, s.credit) end
      got, s.levels = take(s.fair, s.levels, math.floor((s.picks + most) / 16), most)
    end
    if got > 0 then
      s.ready, s.running = math.max(0, s.ready - got), s.running + got
      s.picks, s.credit = (s.picks + got) % 16, math.max(0, s.credit - got)
      if s.left then s.left = s.left - got end
      if s.credit == 0 and length > 1 then
        back[#back + 1] = s.fair
        at = at + 1
      end
    elseif not is_over() then
      step_out(s, open, open and most == 0 and has_more(s.fair, s.levels))
    end
  end

  local rest = false
  while not rest and goes_on() do
    local s = front()
    local open = s.seat == RING and s.closed <= WALL
    local claimable = open and has_more(s.fair, s.levels)
    rest = claimable and admit(s, 1) > 0
    if not rest then step_out(s, open, claimable) end
  end

  local gone = turned and read or read - (#ring - at + 1)
  if gone > 0 then call('LTRIM', key, gone, -1) end
  variadic('RPUSH', key, turned and {unpack(ring, at)} or {})
  variadic('RPUSH', key, back)
  return rest, looks >= MOST_AT_ONCE
end

-- After how long the first strand may go that time alone holds back; -1 = there is none.
local function first_to_open(queue)
  local first = call('ZRANGE', P .. 'kp:' .. queue, 0, 0, 'WITHSCORES')
  if not first[2] or tonumber(first[2]) >= NEVER then return -1 end
  return math.max(1, first[2] - MONO)
end
