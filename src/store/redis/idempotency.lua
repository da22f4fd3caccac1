-- What is known of an idempotency key. KEYS: terms, replicas, the key. ARGV: home, term, what to do, then
-- `begin`: attempt, fingerprint, how long it is kept in ms; `keep`: attempt, answer; `give_up` and `forget`: attempt.
--
-- Fields: `f` the fingerprint, `o` home and attempt of whoever does it (absent once nobody does), `a` the answer.
-- Returns {-1} if the replica has to enlist first. `begin`: {0} now it is ours; {1, f} it was begun and nobody knows its
-- end; {2, f, a} answered; {3, f} another replica is doing it.
local home, term, what, attempt = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', KEYS[1], home) ~= term then
  return {-1}
end
local key, owner = KEYS[3], home .. ' ' .. attempt
local known = redis.call('HMGET', key, 'f', 'o', 'a')
if what == 'begin' then
  if not known[1] then
    redis.call('HSET', key, 'f', ARGV[5], 'o', owner)
    redis.call('PEXPIRE', key, ARGV[6])
    return {0}
  end
  if known[3] then
    return {2, known[1], known[3]}
  end
  local other = string.match(known[2] or '', '^(%S+)')
  if other and other ~= home then
    local time = redis.call('TIME')
    local until_ms = redis.call('ZSCORE', KEYS[2], other)
    if until_ms and tonumber(until_ms) >= time[1] * 1000 + math.floor(time[2] / 1000) then
      return {3, known[1]}
    end
  end
  return {1, known[1]}
end
if known[2] == owner then
  if what == 'keep' then
    redis.call('HSET', key, 'a', ARGV[5])
    redis.call('HDEL', key, 'o')
  elseif what == 'give_up' then
    redis.call('HDEL', key, 'o')
  else
    redis.call('DEL', key)
  end
end
return {1}
