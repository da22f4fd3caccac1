-- Takes a request and its tokens of every caller's limits, or of none; or notes how a request has ended. KEYS: terms,
-- replicas, then a caller each. ARGV: home, term, `take` or `note`, then for every caller: requests a minute, tokens a
-- minute, requests at once (0: as many as it likes), tokens, requests under way here, the number of that count.
--
-- A level is what was taken and is not back yet, in sixty-millionths, so that what comes back in a microsecond is the
-- limit itself: whole numbers, and exact up to 150 million a minute. It is the generic cell rate algorithm told by what
-- was taken instead of by when it is back; a limit that changes keeps what was taken.
--
-- Fields of a caller: `q` and `k` the levels of requests and tokens, `at` when they were true (microseconds of Redis'
-- clock), `c:<home>` how many requests a replica has under way, `v:<home>` term and number of that count.
--
-- Returns {-1} if the replica has to enlist first; {0, index, limit, microseconds to wait} at the first that refuses; else
-- {1} and both levels of every caller, in whole requests and tokens.
local home, term, what = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', KEYS[1], home) ~= term then
  return {-1}
end
local WIDTH, UNIT = 6, 60000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local now_ms = math.floor(now / 1000)

local function text(number)
  return string.format('%.0f', number)
end

local function level(stored, at, limit)
  return math.max(0, (tonumber(stored) or 0) - math.max(0, now - at) * limit)
end

-- Requests that other replicas have under way. One that has not shown up for a while is gone, and they with it.
local function elsewhere(key)
  local fields, count = redis.call('HGETALL', key), 0
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'c:' then
      local other = string.sub(fields[i], 3)
      local until_ms = other ~= home and redis.call('ZSCORE', KEYS[2], other)
      if until_ms and tonumber(until_ms) >= now_ms then
        count = count + tonumber(fields[i + 1])
      end
    end
  end
  return count
end

local callers = {}
for index = 3, #KEYS do
  local at = 4 + (index - 3) * WIDTH
  local key, name = KEYS[index], index - 3
  local rpm, tpm, most = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local tokens, here, number = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local stored = redis.call('HMGET', key, 'q', 'k', 'at', 'c:' .. home, 'v:' .. home)
  local since = tonumber(stored[3]) or now
  local q, k = level(stored[1], since, rpm), level(stored[2], since, tpm)
  local known_term, known_number = string.match(stored[5] or '', '^(%S+) (%S+)$')
  if known_term == term and tonumber(known_number) >= number then
    here, number = tonumber(stored[4]), tonumber(known_number)
  end
  if what == 'take' then
    if most > 0 and elsewhere(key) + here > most then
      return {0, name, 'concurrency', 1000000}
    end
    if rpm > 0 then
      local over = q + UNIT - rpm * UNIT
      if over > 0 then
        return {0, name, 'requests', math.ceil(over / rpm)}
      end
      q = q + UNIT
    end
    if tpm > 0 then
      -- What is more than a minute's worth is never there: it takes all, and what is beyond is paid off afterwards.
      local over = k + math.min(tokens, tpm) * UNIT - tpm * UNIT
      if over > 0 then
        return {0, name, 'tokens', math.ceil(over / tpm)}
      end
      k = k + tokens * UNIT
    end
  elseif tpm > 0 then
    k = math.max(0, k + tokens * UNIT)
  end
  callers[index] = {q, k, here, number, rpm, tpm, stored}
end

local answer = {1}
for index = 3, #KEYS do
  local q, k, here, number, rpm, tpm, stored = unpack(callers[index])
  local key = KEYS[index]
  if what == 'take' or tpm > 0 then
    -- A note does not know the limit of requests: their level stays what it was, when it was.
    if what == 'note' then
      local since = tonumber(stored[3]) or now
      if stored[1] then
        redis.call('HSET', key, 'k', text(k + math.max(0, now - since) * tpm))
      end
    else
      redis.call('HSET', key, 'q', text(q), 'k', text(k), 'at', text(now))
    end
  end
  if here > 0 then
    redis.call('HSET', key, 'c:' .. home, text(here), 'v:' .. home, term .. ' ' .. text(number))
  else
    redis.call('HDEL', key, 'c:' .. home)
    redis.call('HSET', key, 'v:' .. home, term .. ' ' .. text(number))
  end
  -- While requests run, an hour from the last change; else until everything is back.
  local minute, debt = 60000, 0
  if rpm > 0 then debt = math.max(debt, q / rpm / 1000) end
  if tpm > 0 then debt = math.max(debt, k / tpm / 1000) end
  local old = redis.call('PTTL', key)
  local keep = math.max(minute + math.ceil(debt), here > 0 and 3600000 or 0)
  if what == 'note' then keep = math.max(keep, old) end
  redis.call('PEXPIRE', key, text(math.max(keep, minute)))
  table.insert(answer, text(math.ceil(q / UNIT)))
  table.insert(answer, text(math.ceil(k / UNIT)))
end
return answer
