-- Removes a value that still carries an epoch. Answers how many that were: 1 or 0.
-- KEYS: the value. ARGV: 1 line and at (16 bytes).
local head = redis.pcall('GETRANGE', KEYS[1], 0, 19)
if type(head) == 'string' and head:sub(1, 3) == 'Lr\1' and head:sub(5) == ARGV[1] then
  return redis.call('UNLINK', KEYS[1])
end
return 0
