-- The second part of `release`. Answers 1 if the lease was still this one, else 0.
-- KEYS: the lease. ARGV: 1 token, 2 what the channels of waiters begin with, 3 what they are told.
local lease = lease_at(KEYS[1])
if not lease or lease.token ~= ARGV[1] then return 0 end
end_lease(KEYS[1], lease, ARGV[2], ARGV[3])
return 1
