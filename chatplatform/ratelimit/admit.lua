-- Lets a call through at every level, or at none.
-- KEYS: one for each level; then, if the call's tokens may be corrected later, the call's own.
-- ARGV: window and span (µs), requests and tokens of the call, then for each level its two limits (-1 = none).
-- Returns for each level: requests and tokens used, µs until something of it leaves the window, µs to wait for the
-- requests and for the tokens (0 = they fit, -1 = they never will). The call passed if there is nothing to wait for.
--
-- A level is a list of (time, requests, tokens), three doubles each. Its head has the time of the newest cell and the
-- counts of all cells together; then come the cells, oldest first. Calls of one span share a cell, which stays in the
-- window until the last of them leaves it. All times are this server's.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local window, span = tonumber(ARGV[1]), tonumber(ARGV[2])
local cost = { tonumber(ARGV[3]), tonumber(ARGV[4]) }
local levels = (#ARGV - 4) / 2
local CHUNK = 16 -- cells read at once

local function numbers(cell)
  local time, requests, tokens = struct.unpack('<ddd', cell)
  return time, requests, tokens
end

local function packed(time, requests, tokens)
  return struct.pack('<ddd', time, requests, tokens)
end

-- Calls visit(time, requests, tokens) for the cells, oldest first, until it returns true.
local function each_cell(key, visit)
  local from = 1
  while true do
    local cells = redis.call('LRANGE', key, from, from + CHUNK - 1)
    for _, cell in ipairs(cells) do
      if visit(numbers(cell)) then return end
    end
    if #cells < CHUNK then return end
    from = from + CHUNK
  end
end

-- The level without what has left the window.
local function current(key)
  local level = { key = key, newest = -1, oldest = now, used = { 0, 0 } }
  local head = redis.call('LRANGE', key, 0, 1)
  if #head == 0 then return level end
  local newest, requests, tokens = numbers(head[1])
  -- Empty by now; or from a future that was none, before the clock was set back.
  if newest + window <= now or newest > now + window then
    redis.call('DEL', key)
    return level
  end
  local oldest = numbers(head[2])
  if oldest + window <= now then
    local gone = 0
    each_cell(key, function(time, r, t)
      oldest = time
      if time + window > now then return true end
      gone, requests, tokens = gone + 1, requests - r, tokens - t
    end)
    -- The head takes the place of the last cell that goes.
    redis.call('LSET', key, gone, packed(newest, requests, tokens))
    redis.call('LTRIM', key, gone, -1)
  end
  level.newest, level.oldest, level.used = newest, oldest, { requests, tokens }
  return level
end

-- µs until `unit` (1 requests, 2 tokens) of the call fits in.
local function wait(level, unit, limit)
  local lacking = level.used[unit] + cost[unit] - limit
  if limit < 0 or lacking <= 0 then return 0 end
  if cost[unit] > limit then return -1 end
  local left
  each_cell(level.key, function(time, requests, tokens)
    lacking = lacking - (unit == 1 and requests or tokens)
    left = time + window - now
    return lacking <= 0
  end)
  return left
end

local function put(level)
  local key = level.key
  local time = math.max(now, level.newest) -- the clock may have been set back a little
  local requests, tokens = level.used[1] + cost[1], level.used[2] + cost[2]
  if level.newest < 0 then
    level.oldest = time
    redis.call('RPUSH', key, packed(time, requests, tokens), packed(time, cost[1], cost[2]))
  else
    redis.call('LSET', key, 0, packed(time, requests, tokens))
    if math.floor(time / span) == math.floor(level.newest / span) then
      local _, r, t = numbers(redis.call('LINDEX', key, -1))
      redis.call('LSET', key, -1, packed(time, r + cost[1], t + cost[2]))
      if level.oldest == level.newest then level.oldest = time end
    else
      redis.call('RPUSH', key, packed(time, cost[1], cost[2]))
    end
  end
  redis.call('PEXPIRE', key, math.ceil((time + window - now) / 1000) + 1000)
  level.used = { requests, tokens }
  return math.floor(time / span)
end

local found, waits, passes = {}, {}, true
for i = 1, levels do
  found[i] = current(KEYS[i])
  waits[i] = { wait(found[i], 1, tonumber(ARGV[3 + 2 * i])), wait(found[i], 2, tonumber(ARGV[4 + 2 * i])) }
  passes = passes and waits[i][1] == 0 and waits[i][2] == 0
end

if passes and cost[1] + cost[2] > 0 then
  local record = { 'tokens', ARGV[4] }
  for i = 1, levels do
    record[#record + 1] = KEYS[i]
    record[#record + 1] = string.format('%.0f', put(found[i]))
  end
  local call = KEYS[levels + 1]
  if call then
    redis.call('HSET', call, unpack(record))
    redis.call('PEXPIRE', call, math.ceil(window / 1000) + 1000)
  end
end

local answer = {}
for i = 1, levels do
  local level = found[i]
  for _, value in ipairs({ level.used[1], level.used[2], level.oldest + window - now, waits[i][1], waits[i][2] }) do
    answer[#answer + 1] = value
  end
end
return answer
