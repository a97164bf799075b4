-- The second part of `extend`. Answers 1 if the lease was still this one, else 0.
-- KEYS: the lease. ARGV: 1 token, 2 life in ms.
local lease = lease_at(KEYS[1])
if not lease or lease.token ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
