-- Stores a value, unless the one there comes from a later load of the same line. Answers 1 if it was stored, else 0.
-- KEYS: the value. ARGV: 1 bytes, 2 life in ms, 3 line (8 bytes), 4 at (8 bytes, big-endian).
--
-- A value begins with "Lr", the version (1), flags, line, at. Anything else, of whatever type, is replaced.

-- Strings are not compared with `<`: that follows the locale of the server.
local function number(bytes)
  local n = 0
  for i = 1, #bytes do n = n * 256 + bytes:byte(i) end
  return n
end

local head = redis.pcall('GETRANGE', KEYS[1], 0, 19)
if type(head) == 'string' and #head == 20 and head:sub(1, 3) == 'Lr\1' and head:sub(5, 12) == ARGV[3] then
  local at = number(head:sub(13, 20))
  -- No true position is as large as 2^52, and none beyond it could be compared exactly.
  if at < 2 ^ 52 and at > number(ARGV[4]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
