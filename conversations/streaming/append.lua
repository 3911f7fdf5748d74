-- Appends events to a reply's log and tells its readers, if the attempt is not stale.
-- KEYS: log, fence. ARGV: number of the attempt and its round, "1" if this may begin or take over the log, "1" if its last event is here,
--       seconds to keep it, channel, reply id, then kind and data of each event.
-- Returns "stale", "lost" (the log was flushed away), or the cursor of the last event.
local fence = tonumber(redis.call('GET', KEYS[2]) or '-1')
local attempt = tonumber(ARGV[1])
if fence > attempt then return 'stale' end
if fence < attempt and ARGV[2] ~= '1' then return 'lost' end
-- Higher than any attempt, so that an end which is sent again (its answer got lost) does not stand there twice.
if ARGV[3] == '1' then attempt = 1000000000 end
redis.call('SET', KEYS[2], attempt, 'EX', ARGV[4])
local cursor = ''
for i = 7, #ARGV, 2 do
  cursor = redis.call('XADD', KEYS[1], '*', 'k', ARGV[i], 'd', ARGV[i + 1])
  redis.call('PUBLISH', ARGV[5], ARGV[6] .. ' ' .. cursor .. ' ' .. ARGV[i] .. ' ' .. ARGV[i + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return cursor
