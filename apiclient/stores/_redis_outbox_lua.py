"""The operations of the shared outbox, as they run in the server."""

# All keys of an outbox begin with its base, which has a hash tag: they lie on one node of a cluster.
# <base>:item:<id>      hash: the item
# <base>:all, :pending, :delivered, :dead    by number
# <base>:created        pending items by when they were stored
# <base>:leased         pending items that are being delivered, by the end of the lease
# <base>:settled:<state>    final items by when they became final
# <base>:due:<lane>     pending items of a lane (origin and endpoint) that need not keep an order, by when they are due
# <base>:order:<lane>   pending items of a lane that do, by number
# <base>:lanes          how many are pending, by lane;  <base>:lanes:<origin>   the lanes of an origin
# <base>:dedupe         pending items by origin and dedupe;  <base>:facts   the last number, the latest time seen
_COMMON = """
local base = KEYS[1]
local now
if ARGV[1] == '' then
    local clock = redis.call('TIME')
    now = clock[1] + clock[2] / 1000000
else
    now = tonumber(ARGV[1])
end
local FIELDS = {'number', 'id', 'state', 'ordered', 'due', 'created', 'expires', 'lease', 'attempts', 'intent', 'error',
    'status', 'body', 'settled'}
local function text(number)
    return string.format('%.6f', number)
end
local function item_of(id)
    return base .. ':item:' .. id
end
local function get(id, field)
    return redis.call('HGET', item_of(id), field)
end
local function place(id)
    return unpack(redis.call('HMGET', item_of(id), 'lane', 'origin', 'number', 'ordered'))
end
local function entry(id)
    return redis.call('HMGET', item_of(id), unpack(FIELDS))
end
local function set_due(id, due)
    local lane, _, _, ordered = place(id)
    redis.call('HSET', item_of(id), 'due', text(due))
    if ordered ~= '1' then
        redis.call('ZADD', base .. ':due:' .. lane, text(due), id)
    end
end
local function unlease(id)
    redis.call('HDEL', item_of(id), 'lease')
    redis.call('ZREM', base .. ':leased', id)
end
local function holds(id, lease)
    local had = redis.call('HMGET', item_of(id), 'state', 'lease')
    return had[1] == 'pending' and had[2] == lease
end
local function join(id)
    local lane, origin, number, ordered = place(id)
    redis.call('ZADD', base .. ':pending', number, id)
    redis.call('ZADD', base .. ':created', get(id, 'created'), id)
    redis.call('HINCRBY', base .. ':lanes', lane, 1)
    redis.call('SADD', base .. ':lanes:' .. origin, lane)
    if ordered == '1' then
        redis.call('ZADD', base .. ':order:' .. lane, number, id)
    else
        redis.call('ZADD', base .. ':due:' .. lane, get(id, 'due'), id)
    end
end
local function free_name(id)
    local dedupe = get(id, 'dedupe')
    if dedupe then
        redis.call('HDEL', base .. ':dedupe', dedupe)
        redis.call('HDEL', item_of(id), 'dedupe')
    end
end
local function leave(id)
    local lane, origin = place(id)
    redis.call('ZREM', base .. ':pending', id)
    redis.call('ZREM', base .. ':created', id)
    redis.call('ZREM', base .. ':due:' .. lane, id)
    redis.call('ZREM', base .. ':order:' .. lane, id)
    if redis.call('HINCRBY', base .. ':lanes', lane, -1) <= 0 then
        redis.call('HDEL', base .. ':lanes', lane)
        redis.call('SREM', base .. ':lanes:' .. origin, lane)
    end
    free_name(id)
    unlease(id)
end
local function forget(id)
    redis.call('ZREM', base .. ':all', id)
    redis.call('ZREM', base .. ':delivered', id)
    redis.call('ZREM', base .. ':dead', id)
    redis.call('ZREM', base .. ':settled:delivered', id)
    redis.call('ZREM', base .. ':settled:dead', id)
    redis.call('DEL', item_of(id))
end
local function seen()
    return tonumber(redis.call('HGET', base .. ':facts', 'seen') or 0)
end
"""

# Arguments of each, after the present: as the code names them.
PUT = (
    _COMMON
    + """
local id, origin, endpoint, ordered, delay, lifetime, dedupe, intent, error_ =
    ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local lane = origin .. ' ' .. endpoint
if dedupe ~= '' then
    dedupe = origin .. ' ' .. dedupe
    local first = redis.call('HGET', base .. ':dedupe', dedupe)
    if first then
        return first
    end
end
if redis.call('EXISTS', item_of(id)) == 1 then
    -- Once more after an answer that was lost?
    return get(id, 'intent') == intent and get(id, 'state') == 'pending' and id or false
end
local number = redis.call('HINCRBY', base .. ':facts', 'number', 1)
local expires = now + lifetime
redis.call('HSET', item_of(id), 'number', number, 'id', id, 'state', 'pending', 'ordered', ordered, 'lane', lane,
    'origin', origin, 'due', text(math.min(now + delay, expires)), 'created', text(now), 'expires', text(expires),
    'attempts', 0, 'intent', intent)
if error_ ~= '' then
    redis.call('HSET', item_of(id), 'error', error_)
end
if dedupe ~= '' then
    redis.call('HSET', item_of(id), 'dedupe', dedupe)
    redis.call('HSET', base .. ':dedupe', dedupe, id)
end
redis.call('ZADD', base .. ':all', number, id)
join(id)
if now > seen() then
    redis.call('HSET', base .. ':facts', 'seen', text(now))
end
return id
"""
)
CLAIM = (
    _COMMON
    + """
local origin, limit, seconds, lease = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local skip = {}
for i = 6, #ARGV do
    skip[origin .. ' ' .. ARGV[i]] = true
end
if now < seen() - 60 then
    -- The clock was set back: what was to happen soon would be in the far future.
    for _, id in ipairs(redis.call('ZRANGE', base .. ':pending', 0, -1)) do
        if tonumber(get(id, 'due')) > now then
            set_due(id, now)
        end
    end
end
redis.call('HSET', base .. ':facts', 'seen', text(now))
local found = {}
local function candidate(id)
    local had = redis.call('HMGET', item_of(id), 'due', 'number')
    if tonumber(had[1]) <= now then
        found[#found + 1] = {id = id, due = tonumber(had[1]), number = tonumber(had[2])}
    end
end
for _, lane in ipairs(redis.call('SMEMBERS', base .. ':lanes:' .. origin)) do
    if not skip[lane] then
        local free = redis.call('ZRANGEBYSCORE', base .. ':due:' .. lane, '-inf', text(now), 'LIMIT', 0, limit)
        if #free == limit then
            -- All that are due at the same moment as the last, so that the number decides among them.
            local last = redis.call('ZSCORE', base .. ':due:' .. lane, free[limit])
            local same = redis.call('ZRANGEBYSCORE', base .. ':due:' .. lane, last, last, 'LIMIT', 0, 1000)
            local had = {}
            for _, id in ipairs(free) do
                had[id] = true
            end
            for _, id in ipairs(same) do
                if not had[id] then
                    free[#free + 1] = id
                end
            end
        end
        for _, id in ipairs(free) do
            candidate(id)
        end
        local head = redis.call('ZRANGE', base .. ':order:' .. lane, 0, 0)[1]
        if head then
            candidate(head)
        end
    end
end
table.sort(found, function(a, b)
    if a.due ~= b.due then
        return a.due < b.due
    end
    return a.number < b.number
end)
local taken = {}
for i = 1, math.min(limit, #found) do
    local id = found[i].id
    redis.call('HSET', item_of(id), 'lease', lease)
    redis.call('HINCRBY', item_of(id), 'attempts', 1)
    redis.call('ZADD', base .. ':leased', text(now + seconds), id)
    set_due(id, now + seconds)
    local row = entry(id)
    row[#FIELDS + 1] = tonumber(get(id, 'expires')) <= now and 1 or 0
    taken[i] = row
end
return taken
"""
)
EXTEND = (
    _COMMON
    + """
local id, lease, seconds = ARGV[2], ARGV[3], tonumber(ARGV[4])
if not holds(id, lease) then
    return 0
end
set_due(id, now + seconds)
redis.call('ZADD', base .. ':leased', text(now + seconds), id)
return 1
"""
)
RETRY_AT = (
    _COMMON
    + """
local id, lease, delay, error_, counted = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
if not holds(id, lease) then
    return 0
end
unlease(id)
set_due(id, math.min(now + delay, tonumber(get(id, 'expires'))))
if error_ ~= '' then
    redis.call('HSET', item_of(id), 'error', error_)
end
if counted == '0' then
    redis.call('HINCRBY', item_of(id), 'attempts', -1)
end
return 1
"""
)
SETTLE = (
    _COMMON
    + """
local id, lease, state, error_, status, body = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if not holds(id, lease) then
    return 0
end
leave(id)
redis.call('HSET', item_of(id), 'state', state, 'body', body, 'settled', text(now))
redis.call('HDEL', item_of(id), 'error', 'status')
if error_ ~= '' then
    redis.call('HSET', item_of(id), 'error', error_)
end
if status ~= '' then
    redis.call('HSET', item_of(id), 'status', status)
end
redis.call('ZADD', base .. ':' .. state, get(id, 'number'), id)
redis.call('ZADD', base .. ':settled:' .. state, text(now), id)
return 1
"""
)
REVIVE = (
    _COMMON
    + """
local id = ARGV[2]
local state = get(id, 'state')
if state == 'dead' then
    redis.call('ZREM', base .. ':dead', id)
    redis.call('ZREM', base .. ':settled:dead', id)
elseif state ~= 'pending' or get(id, 'lease') then
    return 0
end
redis.call('HSET', item_of(id), 'state', 'pending', 'due', text(now), 'attempts', 0, 'expires', '9e99')
redis.call('HDEL', item_of(id), 'status', 'body', 'settled')
free_name(id)
if state == 'dead' then
    join(id)
else
    set_due(id, now)
end
return 1
"""
)
DROP = (
    _COMMON
    + """
local id = ARGV[2]
local state = get(id, 'state')
if not state then
    return 0
end
if state == 'pending' then
    leave(id)
end
redis.call('ZREM', base .. ':pending', id)
forget(id)
return 1
"""
)
PURGE = (
    _COMMON
    + """
local state, seconds, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local old = redis.call('ZRANGEBYSCORE', base .. ':settled:' .. state, '-inf', text(now - seconds), 'LIMIT', 0, most)
for _, id in ipairs(old) do
    forget(id)
end
return #old
"""
)
STATS = (
    _COMMON
    + """
local oldest = redis.call('ZRANGE', base .. ':created', 0, 0, 'WITHSCORES')[2]
return {
    redis.call('ZCARD', base .. ':pending'), redis.call('ZCOUNT', base .. ':leased', '(' .. text(now), '+inf'),
    redis.call('ZCARD', base .. ':delivered'), redis.call('ZCARD', base .. ':dead'),
    oldest and text(math.max(0, now - oldest)) or '0', redis.call('HGETALL', base .. ':lanes')
}
"""
)
PAGE = (
    _COMMON
    + """
local which, after, limit = ARGV[2], ARGV[3], ARGV[4]
local rows = {}
for i, id in ipairs(redis.call('ZRANGEBYSCORE', base .. ':' .. which, '(' .. after, '+inf', 'LIMIT', 0, limit)) do
    rows[i] = entry(id)
end
return rows
"""
)
GET = (
    _COMMON
    + """
if redis.call('EXISTS', item_of(ARGV[2])) == 0 then
    return {}
end
return {entry(ARGV[2])}
"""
)
