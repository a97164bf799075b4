-- The second part of `append`. ARGV: 7 mode, 8 op, 9 node, 10 reason, 11 actor, then the selectors. Answers line, position.
local mode = ARGV[7]
local fields = { 'mode', mode, 'op', ARGV[8], 'node', ARGV[9], 'reason', ARGV[10], 'actor', ARGV[11] }
for i = 12, #ARGV do
  fields[#fields + 1] = 'sel'
  fields[#fields + 1] = ARGV[i]
end
record(line, unpack(fields))
local stamps = {}
for i = 12, #ARGV do
  stamps[#stamps + 1] = mode .. ARGV[i]
  stamps[#stamps + 1] = text(last)
end
redis.call('HSET', STATE, unpack(stamps))
if redis.call('HLEN', STATE) > limit then
  -- The generation is full. The one before it is forgotten, and with it how far back the stamps reach.
  redis.call('UNLINK', OLD)
  redis.call('RENAME', STATE, OLD)
  redis.call('HSET', STATE, '.line', line, '.last', text(last), '.server', server, '.lineage', lineage,
    '.since', text(last))
end
finish()
return { line, text(last) }
