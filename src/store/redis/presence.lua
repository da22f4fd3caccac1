-- Says that a replica is here. KEYS: terms, replicas, awaited. ARGV: home, term, lease in ms, `enlist`, `renew`, `told` or
-- `leave`, then the replicas that were here when this one last looked.
--
-- `awaited` has those that are still to tell what they have spent and hold since this Redis forgot everything, until when at
-- the latest. That it forgot is seen by who was here before and is not known.
--
-- Returns the replicas that are here; nothing if this one has to enlist first.
local home, term, lease, what = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if what ~= 'enlist' and redis.call('HGET', KEYS[1], home) ~= term then
  return {}
end
if what == 'leave' then
  redis.call('HDEL', KEYS[1], home)
  redis.call('ZREM', KEYS[2], home)
  redis.call('ZREM', KEYS[3], home)
  return {home}
end
if what == 'told' then
  redis.call('ZREM', KEYS[3], home)
  return {home}
end
if what == 'enlist' and #ARGV > 4 and not redis.call('ZSCORE', KEYS[2], home) then
  for index = 5, #ARGV do
    if not redis.call('ZSCORE', KEYS[2], ARGV[index]) then
      redis.call('ZADD', KEYS[3], string.format('%.0f', now + lease), ARGV[index])
    end
  end
  redis.call('PEXPIRE', KEYS[3], 2 * lease)
end
redis.call('HSET', KEYS[1], home, term)
redis.call('ZADD', KEYS[2], string.format('%.0f', now + lease), home)
-- Those that have been away for a day do not come back.
local away = string.format('%.0f', now - 86400000)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', away, 'LIMIT', 0, 100)) do
  redis.call('HDEL', KEYS[1], old)
  redis.call('ZREM', KEYS[2], old)
end
return redis.call('ZRANGEBYSCORE', KEYS[2], string.format('%.0f', now), '+inf')
