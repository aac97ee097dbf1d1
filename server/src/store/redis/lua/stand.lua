-- READY and RUNNING jobs that are brought in, in their order: (id, record) each. Those that are there stay as they are.
for i = 3, #ARGV, 2 do
  local id, m = ARGV[i], ARGV[i + 1]
  local queue, state, level, fair = queue_of(m), state_of(m), m:byte(3), fair_of(m)
  if call('HSETNX', P .. 'm', id, m) == 1 then
    if fair ~= '' then divide(queue) end
    if state == READY then
      call('RPUSH', hints_of(queue, level, fair), id .. m:sub(6, 7))
      if strands_of(queue) then line_up(queue, fair, level, id) end
    elseif strands_of(queue) then
      enter_strand(queue, fair, state)
    end
    count(queue, state, 1)
  end
end
write_strands()
write_counts()
return {REDIS_MS, 1}
