-- The second part of `store`. Stores a value, unless the one there comes from a later load of the same line, or the load has lost
-- its lease. Answers 0 if it was not stored; else 1, or the length and the rest of life (ms) of what it has replaced.
-- KEYS: the value, and its lease if that matters.
-- ARGV: 1 bytes, 2 life in ms, 3 line (8 bytes), 4 at (8 bytes, big-endian), 5 whether to tell what was replaced (1); and if the
-- lease matters: 6 the token of the load that ends, or none to end any; 7 what the channels of waiters begin with, 8 what they
-- are told. Without a lease 6 may be 1: then it gives way to any value there but one of an earlier load of the same line.
--
-- A value begins with "Lr", the version (1), flags, line, at. Anything else, of whatever type, is replaced.

-- Strings are not compared with `<`: that follows the locale of the server.
local function number(bytes)
  local n = 0
  for i = 1, #bytes do n = n * 256 + bytes:byte(i) end
  return n
end

-- How far the value there is ahead of this one, if both are of one line.
local ahead
local head = redis.pcall('GETRANGE', KEYS[1], 0, 19)
local is_value = type(head) == 'string' and #head == 20 and head:sub(1, 3) == 'Lr\1'
if is_value and head:sub(5, 12) == ARGV[3] then
  local at = number(head:sub(13, 20))
  -- No true position is as large as 2^52, and none beyond it could be compared exactly.
  if at < 2 ^ 52 then ahead = at - number(ARGV[4]) end
end

local lease, breaks = nil, false
local fits = not ahead or ahead <= 0
if KEYS[2] then
  lease, breaks = lease_at(KEYS[2]), ARGV[6] == ''
  if lease and not breaks and lease.token ~= ARGV[6] then
    lease, fits = nil, false
  elseif not lease and not breaks and ahead == 0 then
    -- Somebody else has loaded and stored since it ran out.
    fits = false
  end
elseif ARGV[6] == '1' and is_value and (not ahead or ahead >= 0) then
  fits = false
end

local answer = 0
if fits then
  answer = 1
  if ARGV[5] == '1' then
    local left = redis.call('PTTL', KEYS[1])
    local length = left >= 0 and redis.pcall('STRLEN', KEYS[1])
    if type(length) == 'number' then answer = { length, left } end
  end
  -- Should it fail, whoever waits for the load is woken all the same.
  local set = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  if set.err then answer, fits = set, false end
end
if lease and (fits or not breaks) then end_lease(KEYS[2], lease, ARGV[7], ARGV[8]) end
return answer
