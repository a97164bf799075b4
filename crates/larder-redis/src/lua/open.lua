-- The second part of `open`. Answers line, last, lineage, how far back the stamps reach, server time in ms,
-- whether the server told its id.
finish()
local old = redis.pcall('HGET', OLD, '.since')
local reach = type(old) == 'string' and position(old) or since
return { line, text(last), lineage, text(reach), text(time[1] * 1000 + math.floor(time[2] / 1000)),
  server ~= '' and 1 or 0 }
