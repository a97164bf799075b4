-- The second part of `lease`. Answers the value that is there, if it is not the rejected one; else 1 if the lease is granted; else
-- whose it is: token, line, at, and how many ms it still lives.
-- KEYS: the value, its lease. ARGV: 1 token, 2 line, 3 at, 4 life in ms, 5 how the rejected value
-- begins (or none), 6 the token of a load in vain (or none), 7 who waits.
--
-- A value is told from another by how it begins, and not by its epoch: two loads with no invalidation between have the same.
local head = redis.pcall('GETRANGE', KEYS[1], 0, math.max(#ARGV[5], 20) - 1)
if type(head) == 'string' and #head >= 20 and head:sub(1, 3) == 'Lr\1' and (ARGV[5] == '' or head ~= ARGV[5]) then
  return redis.call('GET', KEYS[1])
end
local lease = lease_at(KEYS[2])
if not lease or lease.token == ARGV[1] or lease.token == ARGV[6] then
  local waiters = lease and lease.waiters or ''
  redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. waiters, 'PX', ARGV[4])
  return 1
end
if #lease.waiters < 64 * 17 and not lease.waiters:find(ARGV[7], 1, true) then
  -- On a full server he is not remembered, and told whose the lease is all the same.
  redis.pcall('APPEND', KEYS[2], ' ' .. ARGV[7])
end
return { lease.token, lease.line, lease.at, lease.left }
