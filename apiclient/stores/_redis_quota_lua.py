"""The decision of the shared limiter, as it runs in the server."""

LEASE = """
-- KEYS: facts, line, workers, then for each rate: times of release, units by time.
-- Times are microseconds of the server's clock. A unit is held from its grant until one period
-- after it was used; as long as nobody said when that was, until a grace and a period after the grant.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local ask = cjson.decode(ARGV[1])
local facts, line, workers = KEYS[1], KEYS[2], KEYS[3]
local me, want, rates = ask.me, ask.want, ask.rates
local longest, shortest, least = 0, math.huge, math.huge
for _, rate in ipairs(rates) do
    longest = math.max(longest, rate[2])
    shortest = math.min(shortest, rate[2])
    least = math.min(least, rate[1])
end

local known = redis.call('HMGET', facts, 'generation', 'gate', 'seen', 'margin', 'recovering', 'expected', 'taught')
local generation, gate = known[1], tonumber(known[2] or 0)
local recovering, expected = tonumber(known[5] or 0), tonumber(known[6] or 0)
if generation and tonumber(known[3] or 0) - now > 2000000 then
    redis.call('DEL', unpack(KEYS))  -- the clock was set back: what is held would be held for too long
    generation, gate = false, 0
end
if not generation then
    generation = string.format('%.0f', now)
    redis.call('HSET', facts, 'generation', generation)
    redis.call('PEXPIRE', facts, 60000)
    recovering, expected = 0, 0
end
if ask.generation ~= generation and ask.generation ~= '' then
    -- The server has forgotten what this worker knows: until all have reported, nobody gets more than a share.
    -- Those who failed a moment before it came back stay away for a while, and go by their share meanwhile.
    recovering = math.max(recovering, tonumber(generation) + math.min(longest, 60000000) + ask.away)
    if recovering > now then
        -- Those who are back are not all: who is away yet has used a share as well.
        expected = math.max(expected, ask.workers)
        redis.call('HSET', facts, 'recovering', string.format('%.0f', recovering), 'expected', expected)
    end
    if not ask.whole then
        return {-1, 0, 0, generation}
    end
end
local margin = tonumber(known[4] or 0)

local function grain_of(period)
    return math.max(1, math.floor(period / 1024))
end
local function name_of(i)
    return string.format('used:%.0f', rates[i][2])
end
local function hold(i, units, until_)
    local bucket = string.format('%.0f', math.ceil(until_ / grain_of(rates[i][2])))
    redis.call('ZADD', KEYS[2 + 2 * i], until_, bucket)
    redis.call('HINCRBY', KEYS[3 + 2 * i], bucket, units)
    redis.call('HINCRBY', facts, name_of(i), units)
    return bucket
end
local function span(i)
    return rates[i][2] + math.max(500, rates[i][2] * 0.002) + margin * rates[i][2]
end

for _, each in ipairs(ask.over) do
    local units, age, buckets = each[1], each[2], each[3]
    for i = 1, #rates do
        local there = tonumber(redis.call('HGET', KEYS[3 + 2 * i], buckets[i] or '') or 0)
        local moved = math.min(units, there)
        if moved > 0 then
            if moved == there then
                redis.call('HDEL', KEYS[3 + 2 * i], buckets[i])
                redis.call('ZREM', KEYS[2 + 2 * i], buckets[i])
            else
                redis.call('HINCRBY', KEYS[3 + 2 * i], buckets[i], -moved)
            end
            redis.call('HINCRBY', facts, name_of(i), -moved)
        end
        -- Also what was held for too short a time, because its request was held up for so long.
        if age >= 0 and now - age + span(i) > now then
            hold(i, units, now - age + span(i))
        end
    end
end
for _, each in ipairs(ask.used) do
    for i = 1, #rates do
        if now - each[2] + span(i) > now then
            hold(i, each[1], now - each[2] + span(i))
        end
    end
end

local free = math.huge
local used = {}
for i, rate in ipairs(rates) do
    local past = redis.call('ZRANGEBYSCORE', KEYS[2 + 2 * i], '-inf', now)
    local gone = 0
    for _, bucket in ipairs(past) do
        gone = gone + tonumber(redis.call('HGET', KEYS[3 + 2 * i], bucket) or 0)
        redis.call('HDEL', KEYS[3 + 2 * i], bucket)
        redis.call('ZREM', KEYS[2 + 2 * i], bucket)
    end
    used[i] = tonumber(redis.call('HGET', facts, name_of(i)) or 0)
    if gone > 0 then
        used[i] = redis.call('HINCRBY', facts, name_of(i), -gone)
    end
    free = math.min(free, rate[1] - used[i])
end
redis.call('ZADD', workers, now, me)
redis.call('ZREMRANGEBYSCORE', workers, '-inf', now - math.max(10000000, math.min(3 * longest, 60000000)))
local count = redis.call('ZCARD', workers)

-- The line: each who wants more keeps its place until it has had its turn, a fair part of the quota.
local mine, others, ahead, lapse = nil, 0, 0, math.huge
local waiting = redis.call('HGETALL', line)
local entries = {}
for i = 1, #waiting, 2 do
    local since, wanted, got, back = string.match(waiting[i + 1], '^(%d+) (%d+) (%d+) (%d+)$')
    local entry = {who = waiting[i], since = tonumber(since), want = tonumber(wanted), got = tonumber(got),
        back = tonumber(back)}
    if entry.who == me then
        mine = entry
    elseif entry.back + 2 * shortest < now then
        redis.call('HDEL', line, entry.who)
    elseif entry.back > now then
        others = others + 1
        entries[others] = entry
    end
end
local turn = math.max(1, math.floor(least / (others + 1)))
if not mine then
    mine = {since = now, got = 0}
end
for _, entry in ipairs(entries) do
    if entry.since < mine.since or (entry.since == mine.since and entry.who < me) then
        ahead = ahead + math.max(0, math.min(entry.want, turn - entry.got))
        lapse = math.min(lapse, entry.back)
    end
end
local granted = 0
if gate <= now then
    granted = math.max(0, math.min(want, free - ahead))
    if others > 0 then
        granted = math.min(granted, math.max(1, turn - mine.got))
    end
    if recovering > now or ask.alone then
        local share = math.floor(least / math.max(expected, ask.workers, count))
        granted = math.max(0, math.min(granted, math.max(1, share) - ask.recent))
    end
end

local reply = {granted, 0, count, generation, free - granted, recovering > now and 1 or 0, known[7] or ''}
for i = 1, #rates do
    if granted > 0 then
        reply[7 + i] = hold(i, granted, now + ask.grace + span(i))
    end
end
local wait = 0
if granted == 0 then
    if gate > now then
        wait = gate - now
    elseif recovering > now or ask.alone then
        wait = math.min(shortest / 20, 1000000)
    else
        local first = 0
        for i, rate in ipairs(rates) do
            local room = rate[1] - used[i]
            if room < ahead + 1 then
                local soon = redis.call('ZRANGE', KEYS[2 + 2 * i], 0, 63, 'WITHSCORES')
                local next_, at = 0, 0
                for j = 1, #soon, 2 do
                    at = tonumber(soon[j + 1])
                    if room < 1 then
                        next_ = at
                    end
                    room = room + tonumber(redis.call('HGET', KEYS[3 + 2 * i], soon[j]) or 0)
                    if room >= ahead + 1 then
                        break
                    end
                end
                first = math.max(first, next_, math.min(at, math.max(next_, now) + shortest / 8))
            end
        end
        wait = first - now
        -- What was not reported yet comes free earlier than it seems.
        if wait > ask.grace + shortest / 40 then
            wait = wait - ask.grace - shortest / 40
        else
            wait = math.min(wait, ask.grace / 4)
        end
        wait = math.max(1000, wait)
        if free >= 1 and lapse < math.huge then
            wait = math.max(1000, math.min(wait, lapse - now))
        end
    end
end
if want == 0 then
    wait = 0  -- only a report
elseif granted < want then
    local since, got = mine.since, mine.got + granted
    if got >= turn then
        since, got = now, 0
    end
    local back = now + wait + math.max(5000, math.min(shortest / 20, 1000000))
    redis.call('HSET', line, me, string.format('%.0f %d %d %.0f', since, want - granted, got, back))
else
    redis.call('HDEL', line, me)
end
reply[2] = math.ceil(wait)

redis.call('HSET', facts, 'seen', string.format('%.0f', now))
if margin > 0 and granted > 0 then
    margin = margin * (1 - 0.03 * granted / least)
    redis.call('HSET', facts, 'margin', margin > 0.0005 and margin or 0)
end
local life = math.ceil(longest / 1000) * 2 + 60000
-- What is counted by longer periods, which this worker does not know of, needs the facts for longer.
local left = redis.call('PTTL', facts)
for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, life)
end
if left > life then
    redis.call('PEXPIRE', facts, left)
end
return reply
"""

PAUSE = """
-- KEYS: lessons, facts. ARGV: microseconds.
local lessons, facts = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local known = redis.call('HMGET', facts, 'generation', 'gate', 'margin', 'refused')
if not known[1] then
    redis.call('HSET', facts, 'generation', string.format('%.0f', now))
end
local gate = math.max(tonumber(known[2] or 0), now + ARGV[1])
redis.call('HSET', facts, 'gate', string.format('%.0f', gate))
if now - tonumber(known[4] or 0) > 500000 then
    -- One event, however many were refused in it: units are held a little longer from now on.
    redis.call('HSET', facts, 'refused', string.format('%.0f', now),
        'margin', math.min(0.25, math.max(0.005, 2 * tonumber(known[3] or 0))))
    local span, at = string.match(redis.call('HGET', lessons, 'event') or '', '^(%d+) (%d+)$')
    if span and now - at > 2 * span and redis.call('HINCRBY', lessons, 'refused', 1) % 3 == 0 then
        -- Refused again and again: one was counted by two, perhaps.
        redis.call('HSET', lessons, 'less', redis.call('HGET', lessons, 'refused') / 3)
        redis.call('HSET', facts, 'taught', string.format('%.0f', now))
    end
end
local left = redis.call('PTTL', facts)
redis.call('PEXPIRE', facts, math.max(left, math.ceil(ARGV[1] / 1000) + 60000))
"""

TEACH = """
-- KEYS: lessons, facts. ARGV: me, then for each: limit, period, fixed, exact, age of a count or -1 where it was stated.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local known, stated, news = {}, false, false
local kept = redis.call('HGETALL', KEYS[1])
for i = 1, #kept, 2 do
    known[kept[i]] = kept[i + 1]
    stated = stated or string.sub(kept[i], 1, 7) == 'stated:'
end
for i = 2, #ARGV, 5 do
    local limit, period, exact, age = ARGV[i], ARGV[i + 1], ARGV[i + 3], tonumber(ARGV[i + 4])
    if age < 0 then
        -- What was counted, or guessed, gives way to what is known.
        for field, value in pairs(known) do
            if string.sub(field, 1, 7) ~= 'stated:' or (exact == '1' and string.match(value, '^%d+ %d 0')) then
                redis.call('HDEL', KEYS[1], field)
                known[field] = nil
                news = true
            end
        end
        local field, said = 'stated:' .. period, limit .. ' ' .. ARGV[i + 2] .. ' ' .. exact
        news = news or not known[field] or string.match(known[field], '^%d+ %d %d') ~= said
        known[field] = said .. ' ' .. string.format('%.0f', now)
        redis.call('HSET', KEYS[1], field, known[field])
        stated = true
    elseif not stated then
        -- Counts of one refusal add up; a later one is of another.
        local span, at = string.match(known.event or '', '^(%d+) (%d+)$')
        if not span then
            span, at = period, string.format('%.0f', now - age)
            known.event = span .. ' ' .. at
            redis.call('HSET', KEYS[1], 'event', known.event)
        end
        local field = 'count:' .. ARGV[1]
        if span == period and math.abs(now - age - tonumber(at)) <= 2 * tonumber(period) and not known[field] then
            known[field] = limit
            redis.call('HSET', KEYS[1], field, limit)
            news = true
        end
    end
end
if news then
    redis.call('HSET', KEYS[2], 'taught', string.format('%.0f', now))
    if redis.call('PTTL', KEYS[2]) < 0 then
        redis.call('PEXPIRE', KEYS[2], 60000)
    end
end
redis.call('PEXPIRE', KEYS[1], 3600000)
"""

HEARD = """
-- KEYS: lessons, facts. Returns when they last changed, microseconds of pause, and five numbers for each, as in TEACH.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local facts = redis.call('HMGET', KEYS[2], 'gate', 'taught')
local reply = {facts[2] or '', math.ceil(math.max(0, tonumber(facts[1] or 0) - now))}
local kept = redis.call('HGETALL', KEYS[1])
local sum, less, event = 0, 0, nil
local function tell(limit, period, fixed, exact, age)
    for _, each in ipairs({limit, period, fixed, exact, age}) do
        reply[#reply + 1] = tonumber(each)
    end
end
for i = 1, #kept, 2 do
    local field, value = kept[i], kept[i + 1]
    if field == 'event' then
        event = value
    elseif string.sub(field, 1, 6) == 'count:' then
        sum = sum + tonumber(value)
    elseif field == 'less' then
        less = tonumber(value)
    elseif string.sub(field, 1, 7) == 'stated:' then
        local limit, fixed, exact, at = string.match(value, '^(%d+) (%d) (%d) (%d+)$')
        if now - tonumber(at) < 3600000000 then
            tell(limit, string.sub(field, 8), fixed, exact, -1)
        end
    end
end
if event and sum > 0 then
    local period, at = string.match(event, '^(%d+) (%d+)$')
    tell(math.max(math.ceil(0.75 * sum), sum - less), period, 0, 0, math.max(0, now - tonumber(at)))
end
return reply
"""
