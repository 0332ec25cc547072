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

local known = redis.call('HMGET', facts, 'generation', 'gate', 'seen', 'margin', 'recovering')
local generation, gate = known[1], tonumber(known[2] or 0)
local recovering = tonumber(known[5] or 0)
if generation and tonumber(known[3] or 0) - now > 2000000 then
    redis.call('DEL', unpack(KEYS))  -- the clock was set back: what is held would be held for too long
    generation, gate = false, 0
end
if not generation then
    generation = string.format('%.0f', now)
    redis.call('HSET', facts, 'generation', generation, 'name', ask.name)
    recovering = 0
end
if ask.generation ~= generation and ask.generation ~= '' then
    -- The server has forgotten what this worker knows: until all have reported, nobody gets more than a share.
    -- Those who failed a moment before it came back stay away for a while, and go by their share meanwhile.
    recovering = math.max(recovering, tonumber(generation) + math.min(longest, 60000000) + ask.away)
    if recovering > now then
        redis.call('HSET', facts, 'recovering', string.format('%.0f', recovering))
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
    if recovering > now then
        granted = math.max(0, math.min(granted, math.floor(least / math.max(ask.workers, count)) - ask.recent))
    end
end

local reply = {granted, 0, count, generation, free - granted, recovering > now and 1 or 0}
for i = 1, #rates do
    if granted > 0 then
        reply[6 + i] = hold(i, granted, now + ask.grace + span(i))
    end
end
local wait = 0
if granted == 0 then
    if gate > now then
        wait = gate - now
    elseif recovering > now then
        wait = math.min(recovering - now, shortest / 20)
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
for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, math.ceil(longest / 1000) * 2 + 60000)
end
return reply
"""

PAUSE = """
-- KEYS: facts. ARGV: microseconds, name.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local known = redis.call('HMGET', KEYS[1], 'generation', 'gate', 'margin', 'refused')
if not known[1] then
    redis.call('HSET', KEYS[1], 'generation', string.format('%.0f', now), 'name', ARGV[2])
end
local gate = math.max(tonumber(known[2] or 0), now + ARGV[1])
redis.call('HSET', KEYS[1], 'gate', string.format('%.0f', gate))
if now - tonumber(known[4] or 0) > 500000 then
    -- One event, however many were refused in it: units are held a little longer from now on.
    redis.call('HSET', KEYS[1], 'refused', string.format('%.0f', now),
        'margin', math.min(0.25, math.max(0.005, 2 * tonumber(known[3] or 0))))
end
local left = redis.call('PTTL', KEYS[1])
redis.call('PEXPIRE', KEYS[1], math.max(left, math.ceil(ARGV[1] / 1000) + 60000))
"""
