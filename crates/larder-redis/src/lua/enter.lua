-- The first part of `open` and of `append`; the second part follows in the same script. It reads where the log stands, begins a
-- new line where history has a break, and offers `record` and `finish`.
--
-- KEYS: state, log, old stamps: all in one slot.
-- ARGV: 1 the name of a new line, should one begin; 2, 3 the caller's position (line, at), empty if it has none; 4 stamps kept in
-- a generation; 5 life of the keys in ms; 6 records kept in the log; then what the second part wants.
local STATE, LOG, OLD = KEYS[1], KEYS[2], KEYS[3]
local nonce, caller_line, caller_at = ARGV[1], ARGV[2], tonumber(ARGV[3]) or 0
local limit, life, kept = tonumber(ARGV[4]), ARGV[5], ARGV[6]

-- Positions stay below 2^52, where Lua's numbers are exact; printed without an exponent.
local function text(position) return string.format('%.0f', position) end
local function position(field)
  local at = field and #field <= 16 and field:match('^%d+$') and tonumber(field)
  return at and at < 2 ^ 52 and at or nil
end

local state = redis.pcall('HMGET', STATE, '.line', '.last', '.server', '.lineage', '.since')
if state.err then
  if not state.err:find('WRONGTYPE', 1, true) then return state end
  state = {}
end
local line, last, lineage, since = state[1], position(state[2]), state[4] or '', position(state[5])
-- What is not ours is as good as nothing: a state that was lost, or that another program has written.
local known = line and #line == 16 and line:match('^%x+$') and last and since
if not known then
  redis.call('UNLINK', STATE, LOG, OLD)
  line, last, lineage, since = '', 0, '', nil
end

-- Another process, or another history: the id changes with a restart, a failover, a first replica. Unknown where INFO is forbidden.
local info = redis.pcall('INFO', 'replication')
local server = type(info) == 'string' and info:match('master_replid:(%x+)') or ''
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if now >= 2 ^ 52 then now = 0 end

-- Appends a record behind `line_before:last` and keeps the state in step with it.
local function record(line_before, ...)
  local id = math.max(now, last + 1)
  local entry = { 'XADD', LOG, 'MAXLEN', '~', kept, text(id) .. '-0',
    'v', '1', 'line', line, 'prev', line_before .. ':' .. text(last), ... }
  local added = redis.pcall(unpack(entry))
  if type(added) == 'table' and added.err then
    -- A stream that is none, or that is ahead of its state, is not this log. Readers see the gap.
    if added.err:find('WRONGTYPE', 1, true) or added.err:find('equal or smaller', 1, true) then
      redis.call('UNLINK', LOG)
    end
    redis.call(unpack(entry))
  end
  last = id
  since = since or id
  redis.call('HSET', STATE, '.line', line, '.last', text(last), '.server', server, '.lineage', lineage,
    '.since', text(since))
end

-- Every key lives on for as long as somebody uses it, and no longer.
local function finish()
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, life) end
end

local function on_line(of, at)
  if of == line then return at <= last end
  local cut = lineage:match(of .. ':(%d+)')
  return cut and at <= tonumber(cut)
end

local line_before = line
if line == '' then
  line = nonce
elseif server ~= state[3] or (caller_line == line and caller_at > last) then
  lineage = lineage .. line .. ':' .. text(last) .. ','
  local _, cuts = lineage:gsub(',', '')
  if cuts > 8 then lineage = lineage:gsub('^[^,]*,', '', 1) end
  line = nonce
end
-- A barrier: between what the caller may know and what anybody loads from now on.
if line ~= line_before or (caller_line ~= '' and not on_line(caller_line, caller_at)) then
  record(line_before)
end
