-- The first part of the scripts that count bytes to shares; the second part follows in the same script.
--
-- A share is a hash: `<width>:<number>` -> the bytes whose life ends in that part of time, as many parts of that width (in ms)
-- after the beginning of time. They are free again when the part is over.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function text(number) return string.format('%.0f', number) end

-- The parts that are not over: field, end, bytes. Removes the others, and what is no share.
local function parts_of(share)
  local rows = redis.pcall('HGETALL', share)
  if rows.err then
    redis.call('UNLINK', share)
    return {}
  end
  local parts = {}
  for i = 1, #rows, 2 do
    local width, number = rows[i]:match('^(%d+):(%d+)$')
    local over, bytes = width and width * number, tonumber(rows[i + 1])
    if over and bytes and bytes > 0 and over > now then
      parts[#parts + 1] = { field = rows[i], over = over, bytes = bytes }
    else
      redis.call('HDEL', share, rows[i])
    end
  end
  return parts
end
