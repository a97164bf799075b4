-- The second part of `reserve`. Answers 1 if the bytes were counted, 0 if the share would hold more than its limit.
-- KEYS: the share. ARGV: 1 bytes, 2 their life in ms, 3 the width of their part in ms, 4 the limit.
local held, last = tonumber(ARGV[1]), 0
for _, part in ipairs(parts_of(KEYS[1])) do
  held = held + part.bytes
  last = math.max(last, part.over)
end
if held > tonumber(ARGV[4]) then return 0 end
-- The part that is over when they are surely gone.
local number = math.floor((now + ARGV[2]) / ARGV[3]) + 1
redis.call('HINCRBY', KEYS[1], ARGV[3] .. ':' .. text(number), ARGV[1])
redis.call('PEXPIREAT', KEYS[1], text(math.max(last, number * ARGV[3])))
return 1
