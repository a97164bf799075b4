-- The second part of `give_back`. Answers how many parts it has taken from.
-- KEYS: the share. ARGV: 1 bytes, 2 how many ms they would have lived.
--
-- Where they were counted is known roughly: from the part in which they end on, whatever its width.
local bytes, over = tonumber(ARGV[1]), now + ARGV[2]
local parts = parts_of(KEYS[1])
table.sort(parts, function(a, b) return math.abs(a.over - over) < math.abs(b.over - over) end)
local count = 0
for _, part in ipairs(parts) do
  if bytes <= 0 then break end
  if bytes < part.bytes then
    redis.call('HINCRBY', KEYS[1], part.field, text(-bytes))
  else
    redis.call('HDEL', KEYS[1], part.field)
  end
  bytes = bytes - part.bytes
  count = count + 1
end
return count
