-- Says how many tokens a call takes after all, at every level where it was counted.
-- KEYS: the call's own, then one for each level. ARGV: span of a cell (µs), tokens.
-- Returns 1; 0 if the call is not known (any more), which changes nothing.
local held = redis.call('HGET', KEYS[1], 'tokens')
if not held then return 0 end
local span, difference = tonumber(ARGV[1]), tonumber(ARGV[2]) - tonumber(held)
if difference == 0 then return 1 end

local function change(key, index)
  local time, requests, tokens = struct.unpack('<ddd', redis.call('LINDEX', key, index))
  redis.call('LSET', key, index, struct.pack('<ddd', time, requests, tokens + difference))
end

-- The place of a cell in its list, which is ordered by time; nil if it has left the window.
local function place(key, number)
  local low, high = 1, redis.call('LLEN', key) - 1
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local found = math.floor(struct.unpack('<d', redis.call('LINDEX', key, middle)) / span)
    if found == number then return middle end
    if found < number then low = middle + 1 else high = middle - 1 end
  end
end

for i = 2, #KEYS do
  local number = redis.call('HGET', KEYS[1], KEYS[i])
  local index = number and place(KEYS[i], tonumber(number))
  if index then
    change(KEYS[i], index)
    change(KEYS[i], 0)
  end
end
redis.call('HSET', KEYS[1], 'tokens', ARGV[2])
return 1
