-- Counts one more connection of this process at each key, if none of them is full then.
-- KEYS: when each process last said that it lives; then hashes of counts by process.
-- ARGV: this process, seconds that it lives for; then for each hash this process's new count, and the limit of all.
-- Returns 0, or the number of the hash that is full.
local me, now = ARGV[1], tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, me)
local lives = {}
for _, process in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now - tonumber(ARGV[2]), '+inf')) do
  lives[process] = true
end
for n = 2, #KEYS do
  local total, counts = tonumber(ARGV[2 * n - 1]), redis.call('HGETALL', KEYS[n])
  for i = 1, #counts, 2 do
    if counts[i] == me then
      -- its new count is known already
    elseif lives[counts[i]] then
      total = total + tonumber(counts[i + 1])
    else
      redis.call('HDEL', KEYS[n], counts[i])
    end
  end
  if total > tonumber(ARGV[2 * n]) then return n - 1 end
end
for n = 2, #KEYS do
  redis.call('HSET', KEYS[n], me, ARGV[2 * n - 1])
  redis.call('EXPIRE', KEYS[n], 3600)
end
return 0
