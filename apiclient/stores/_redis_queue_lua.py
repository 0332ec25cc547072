"""The operations of the shared queue of a batch, as they run in the server."""

# All keys of a queue begin with its base, which has a hash tag: they lie on one node of a cluster.
# <base>:facts      hash: input, run, lines, loaded, next (place of the last line handed out), done, seen (the latest
#                   time that anybody asked)
# <base>:lines      hash: by place, from 1, the number and the text of each line that has no result yet
# <base>:returned   places that were handed out and came back, by place
# <base>:runners    runners by the end of their lease;  <base>:held:<runner>   set: the places that one has
# A line waits if its place is above `next`, or in `returned`. What is there of a line that is done means nothing.
_COMMON = """
local base, runner = KEYS[1], ARGV[1]
local FACTS, LINES, RETURNED, RUNNERS = base .. ':facts', base .. ':lines', base .. ':returned', base .. ':runners'
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local function text(number)
    return string.format('%.6f', number)
end
local function held_by(name)
    return base .. ':held:' .. name
end
local function fact(name)
    return tonumber(redis.call('HGET', FACTS, name) or 0)
end
local function facts()
    return redis.call('HMGET', FACTS, 'input', 'run', 'lines', 'loaded', 'done')
end
-- Whether this is the queue that the runner knows, and whole.
local function is_whole(run)
    local had = redis.call('HMGET', FACTS, 'run', 'loaded', 'done')
    return had[1] == run and tonumber(had[2]) - tonumber(had[3]) == redis.call('HLEN', LINES)
end
local function take_back(name)
    for _, place in ipairs(redis.call('SMEMBERS', held_by(name))) do
        if redis.call('HEXISTS', LINES, place) == 1 then
            redis.call('ZADD', RETURNED, place, place)
        end
    end
    redis.call('DEL', held_by(name))
    redis.call('ZREM', RUNNERS, name)
end
local function renew(seconds)
    local seen = fact('seen')
    if seen > 0 and (now < seen - 1 or now > seen + seconds / 2) then
        -- Nobody was heard, so nobody could renew: the server was away, or its clock was set.
        for _, name in ipairs(redis.call('ZRANGE', RUNNERS, 0, -1)) do
            redis.call('ZADD', RUNNERS, text(now + seconds), name)
        end
    end
    redis.call('HSET', FACTS, 'seen', text(now))
    redis.call('ZADD', RUNNERS, text(now + seconds), runner)
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', RUNNERS, '-inf', text(now))) do
        take_back(name)
    end
end
local function acknowledge(first, last)
    local done = 0
    for i = first, last, 1000 do
        local function each()
            return unpack(ARGV, i, math.min(i + 999, last))
        end
        -- Whoever says so: a line that has a result need not be run again.
        done = done + redis.call('HDEL', LINES, each())
        redis.call('SREM', held_by(runner), each())
        redis.call('ZREM', RETURNED, each())
    end
    if redis.call('HINCRBY', FACTS, 'done', done) == fact('lines') then
        redis.call('DEL', RETURNED)
        -- A month, in which whoever loads the input once more is told that it is done.
        redis.call('PEXPIRE', FACTS, 2592000000)
        redis.call('PEXPIRE', RUNNERS, 3600000)
    end
end
"""

# Arguments of each, after the runner: as the code names them.
FACTS = _COMMON + "return facts()"
LOAD = (
    _COMMON
    + """
local input, run, lines, position = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local had = redis.call('HGET', FACTS, 'input')
if not had then
    redis.call('HSET', FACTS, 'input', input, 'run', run, 'lines', lines, 'loaded', 0, 'next', 0, 'done', 0)
elseif had ~= input then
    return facts()
end
-- Whoever comes second with a part, or comes again after an answer that was lost, finds it loaded.
if fact('loaded') == position then
    for i = 6, #ARGV do
        redis.call('HSET', LINES, position + i - 5, ARGV[i])
    end
    redis.call('HSET', FACTS, 'loaded', position + #ARGV - 5)
end
return facts()
"""
)
ROUND = (
    _COMMON
    + """
local run, seconds, wanted, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not is_whole(run) then
    return false
end
renew(seconds)
acknowledge(6, #ARGV)
local left, runners = redis.call('HLEN', LINES), redis.call('ZCARD', RUNNERS)
local mine, returned = redis.call('SCARD', held_by(runner)), redis.call('ZCARD', RETURNED) > 0
-- Nobody has more than an equal part of what is left, so that at the end there is something for everybody.
wanted = math.min(wanted, math.max(math.ceil(left / runners) - mine, mine == 0 and 1 or 0))
local taken, size, place, loaded = {}, 0, fact('next'), fact('loaded')
while #taken < wanted and size < most do
    local given = returned and redis.call('ZPOPMIN', RETURNED)[1]
    if not given then
        returned = false
        if place >= loaded then
            break
        end
        place = place + 1
        given = place
    end
    local line = redis.call('HGET', LINES, given)
    if line then
        mine = mine + redis.call('SADD', held_by(runner), given)
        taken[#taken + 1] = string.format('%d ', given) .. line
        size = size + #line
    end
end
redis.call('HSET', FACTS, 'next', string.format('%d', place))
return {facts(), runners, mine, taken}
"""
)
# After an answer that did not come, a silence that was too long, or a server that lost its last second: who has what
# is agreed on anew. What others have taken, or done, since then stays theirs.
AGREE = (
    _COMMON
    + """
local run, seconds = ARGV[2], tonumber(ARGV[3])
if not is_whole(run) then
    return false
end
renew(seconds)
local known = {}
for i = 4, #ARGV do
    known[ARGV[i]] = true
end
for _, place in ipairs(redis.call('SMEMBERS', held_by(runner))) do
    if not known[place] then
        redis.call('SREM', held_by(runner), place)
        redis.call('ZADD', RETURNED, place, place)
    end
end
local last = fact('next')
for i = 4, #ARGV do
    while last < tonumber(ARGV[i]) do
        last = last + 1
        redis.call('ZADD', RETURNED, last, string.format('%d', last))
    end
    if redis.call('ZREM', RETURNED, ARGV[i]) == 1 then
        redis.call('SADD', held_by(runner), ARGV[i])
    end
end
redis.call('HSET', FACTS, 'next', string.format('%d', last))
return redis.call('SMEMBERS', held_by(runner))
"""
)
LEAVE = (
    _COMMON
    + """
local run = ARGV[2]
if not is_whole(run) then
    return false
end
acknowledge(3, #ARGV)
take_back(runner)
return true
"""
)
FORGET = (
    _COMMON
    + """
for _, name in ipairs(redis.call('ZRANGE', RUNNERS, 0, -1)) do
    redis.call('DEL', held_by(name))
end
return redis.call('DEL', FACTS, LINES, RETURNED, RUNNERS)
"""
)
