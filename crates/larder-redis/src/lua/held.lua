-- The first part of the scripts that have to do with leases; the second part follows in the same script.
--
-- A lease is one string: `<token> <line> <at>`, and ` <waiter>` for each node that waits for its end. Whatever else is in its
-- place, of whatever type, is no lease; nor is one that would never end.
local function lease_at(key)
  local left = redis.call('PTTL', key)
  local text = left >= 0 and redis.pcall('GETRANGE', key, 0, 2047)
  if type(text) ~= 'string' then return nil end
  local token, line, at, waiters = text:match('^(%x+) (%x+) (%d+)([ %x]*)$')
  if not token or #token ~= 16 or #line ~= 16 or #at > 19 or #waiters % 17 ~= 0 then return nil end
  return { token = token, line = line, at = at, waiters = waiters, left = left }
end

-- Takes a lease away and wakes those who wait for it. Where the server forbids that, they ask again some time.
local function end_lease(key, lease, channel, message)
  redis.call('UNLINK', key)
  for waiter in lease.waiters:gmatch('%x+') do redis.pcall('PUBLISH', channel .. waiter, message) end
end
