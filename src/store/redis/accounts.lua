-- Holds amounts in all accounts, or in none. KEYS: terms, awaited, then an account each. ARGV: home, term, ledger, then for
-- every account: state, end in ms, spent, what of it was not settled in this state, held, settled, released, kind of bound,
-- limit, amount, and the account as this replica last saw it: how many texts, then names and values in turn.
--
-- Fields of an account: `s:<ledger>` what that ledger's requests have spent; `h:<home>` what a replica holds; `x:<home>`
-- what it has told last. Amounts are whole numbers up to 2^63 and come as texts: Lua's numbers are exact to 2^53 only, so
-- they are added by Redis itself, and compared as texts or in two parts.
--
-- Returns {-1} if the replica has to enlist first; {-2} if a limit has to be kept and others are still to tell what they
-- have spent and hold, because all of it was forgotten; {0, index, fields} at the first account that refuses; else {1} and for
-- every account what was granted and its fields.
local home, term, ledger = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', KEYS[1], home) ~= term then
  return {-1}
end
local PART = 1000000000
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local is_incomplete = redis.call('ZCOUNT', KEYS[2], now_ms, '+inf') > 0

local function larger(a, b)
  return #a > #b or (#a == #b and a > b)
end

-- Adds what lies between two sums of which the first is the larger.
local function add(key, field, sum, before, sign)
  redis.call('HINCRBY', key, field, sign > 0 and sum or '-' .. sum)
  if before ~= '0' then
    redis.call('HINCRBY', key, field, sign > 0 and '-' .. before or before)
  end
end

-- Puts what the replica tells in the place of what it has told before. It may tell late, twice, or in another order.
local function hear(key, state, spent, opened, held, settled, released)
  local told = redis.call('HGET', key, 'x:' .. home)
  local old_term, old_state, old_settled, old_released
  if told then
    old_term, old_state, old_settled, old_released = string.match(told, '^(%S+) (%S+) (%S+) (%S+)$')
  end
  if old_state == state then
    if larger(settled, old_settled) then
      add(key, 's:' .. ledger, settled, old_settled, 1)
    else
      settled = old_settled
    end
  elseif ledger == home then
    -- Unknown: the ledger knows, and nobody else writes into it.
    local known = redis.call('HGET', key, 's:' .. ledger)
    if not known or larger(spent, known) then
      redis.call('HSET', key, 's:' .. ledger, spent)
    end
  else
    -- A ledger that others write, too, lacks what they have not saved yet: so what a process before this one still held
    -- is added, as the most that its requests can have cost, and what the ledger says counts where that is more.
    local left = redis.call('HGET', key, 'h:' .. home)
    if left and string.sub(left, 1, 1) ~= '-' then
      redis.call('HINCRBY', key, 's:' .. ledger, left)
    end
    local known = redis.call('HGET', key, 's:' .. ledger)
    if not known or larger(opened, known) then
      redis.call('HSET', key, 's:' .. ledger, opened)
    end
    redis.call('HINCRBY', key, 's:' .. ledger, settled)
  end
  if old_state == state and old_term == term then
    if larger(released, old_released) then
      add(key, 'h:' .. home, released, old_released, -1)
    else
      released = old_released
    end
  else
    redis.call('HSET', key, 'h:' .. home, held)
  end
  redis.call('HSET', key, 'x:' .. home, term .. ' ' .. state .. ' ' .. settled .. ' ' .. released)
end

local function parts(text)
  if string.sub(text, 1, 1) == '-' then
    return 0, 0
  end
  return tonumber(string.sub(text, 1, -10)) or 0, tonumber(string.sub(text, -9))
end

-- What is taken of an account, in billions and the rest.
local function taken(fields)
  local high, low = 0, 0
  for i = 1, #fields, 2 do
    local kind = string.sub(fields[i], 1, 2)
    if kind == 's:' or kind == 'h:' then
      local h, l = parts(fields[i + 1])
      high, low = high + h, low + l
    end
  end
  return high, low
end

local granted, seen, unheard = {}, {}, {}
local at = 4
for index = 3, #KEYS do
  local key, bound, limit, amount = KEYS[index], ARGV[at + 7], ARGV[at + 8], ARGV[at + 9]
  local count = tonumber(ARGV[at + 10])
  local is_there = redis.call('EXISTS', key) == 1
  -- Who knows the account from the ledger alone keeps silent until those have told who have seen it here: the ledger has
  -- what they settled, and they would settle it once more.
  unheard[index] = not is_there and count == 0 and is_incomplete and ARGV[at + 4] == '0' and ARGV[at + 5] == '0'
  if not unheard[index] then
    if not is_there then
      for place = at + 11, at + 10 + count, 2 do
        redis.call('HSET', key, ARGV[place], ARGV[place + 1])
      end
    end
    hear(key, ARGV[at], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6])
    -- An hour for clocks that differ.
    redis.call('PEXPIREAT', key, string.format('%.0f', tonumber(ARGV[at + 1]) + 3600000))
  end
  at = at + 11 + count
  local fields = redis.call('HGETALL', key)
  if bound == 'all' or bound == 'some' then
    if is_incomplete then
      return {-2}
    end
    local high, low = taken(fields)
    local most_high, most_low = parts(limit)
    if bound == 'some' then
      -- Tokens, far below 2^53.
      local left = (most_high - high) * PART + most_low - low
      if left < 1 then
        return {0, index - 3, fields}
      end
      if tonumber(amount) > left then
        amount = string.format('%.0f', left)
      end
    end
    local more_high, more_low = parts(amount)
    high, low = high + more_high, low + more_low
    high, low = high + math.floor(low / PART), low % PART
    if high > most_high or (high == most_high and low > most_low) then
      return {0, index - 3, fields}
    end
  end
  granted[index], seen[index] = amount, fields
end

local answer = {1}
for index = 3, #KEYS do
  if granted[index] ~= '0' and not unheard[index] then
    redis.call('HINCRBY', KEYS[index], 'h:' .. home, granted[index])
  end
  table.insert(answer, granted[index])
  table.insert(answer, seen[index])
end
return answer
