-- Counts one more connection of this process at each key, if none of them is full then; one hash of counts by process
-- at each key. Returns 0, or the number of the key that is full.
-- ARGV: this process, how many processes live, their names; then for each key this process's new count and the limit.
local me, first = ARGV[1], 3 + tonumber(ARGV[2])
local lives = {}
for i = 3, first - 1 do lives[ARGV[i]] = true end
for n, key in ipairs(KEYS) do
  local total = tonumber(ARGV[first + 2 * n - 2])
  local counts = redis.call('HGETALL', key)
  for i = 1, #counts, 2 do
    if lives[counts[i]] and counts[i] ~= me then
      total = total + tonumber(counts[i + 1])
    elseif counts[i] ~= me then
      redis.call('HDEL', key, counts[i])
    end
  end
  if total > tonumber(ARGV[first + 2 * n - 1]) then return n end
end
for n, key in ipairs(KEYS) do
  redis.call('HSET', key, me, ARGV[first + 2 * n - 2])
  redis.call('EXPIRE', key, 3600)
end
return 0
