-- Copyright (C) nginx-ims contributors
--
-- The pool manager's ACQUIRE as a script for Redis: the same question, the
-- same change, the same answer. For scripts/bench-pool, which says what is
-- left out.
--
--   EVALSHA ... 0 POOL REALM USER SID NONCE DEADLINE
--
--   p:POOL         ttl, linger (D + margin), home
--   i:POOL:IDENT   the record; IDENT is a number
--   n:POOL:IDENT   impi, impu, display
--   a:POOL         sorted set of identities by the time from which they may
--                  be free; a lower bound, moved when it is come to
--   u:POOL:HASH    the identity that a user has or had last
--   h:POOL:IDENT   its past leases

local pool, realm, user, sid, nonce = ARGV[1], ARGV[2], ARGV[3], ARGV[4],
    ARGV[5]

local conf = redis.call('HMGET', 'p:' .. pool, 'ttl', 'linger', 'home')

if not conf[1] then
    return redis.error_reply('NOPOOL no such pool')
end

if #sid ~= 16 or #nonce ~= 32 then
    return redis.error_reply('BADARG sid or nonce')
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local hash = redis.sha1hex(realm .. '\0' .. user)
local holder = redis.sha1hex('tag\0' .. realm .. '\0' .. user)
local fields = { 'lease', 'user', 'holder', 'start', 'end', 'promised',
                 'rest' }
local index = 'u:' .. pool .. ':' .. hash
local ident = redis.call('GET', index)
local rec, state


local function number(s)
    return tonumber(s or 0)
end


if ident then
    rec = redis.call('HMGET', 'i:' .. pool .. ':' .. ident, unpack(fields))
    state = number(rec[5]) > now and 'same' or 'returned'
end


-- the first of those that may be free; who rests longer is moved back

while not ident do
    local head = redis.call('ZRANGE', 'a:' .. pool, 0, 0, 'WITHSCORES')

    if not head[1] or number(head[2]) > now then
        return redis.error_reply('EXHAUSTED 60')
    end

    rec = redis.call('HMGET', 'i:' .. pool .. ':' .. head[1], unpack(fields))

    if number(rec[7]) > now then
        redis.call('ZADD', 'a:' .. pool, rec[7], head[1])
    else
        ident = head[1]
        state = 'new'
    end
end

local names = redis.call('HMGET', 'n:' .. pool .. ':' .. ident, 'impi',
                         'impu', 'display')
local key = 'i:' .. pool .. ':' .. ident
local stop = now + conf[1]
local promised = math.max(number(rec[6]), stop)
local rest = math.max(number(rec[7]), promised + conf[2])
local lease

if state == 'same' then
    lease = rec[1]
    redis.call('HSET', key, 'sid', sid, 'end', stop, 'promised', promised,
               'rest', rest)
else
    if rec[1] then
        redis.call('RPUSH', 'h:' .. pool .. ':' .. ident,
                   rec[1] .. ' ' .. rec[2] .. ' ' .. rec[4] .. ' ' .. rec[5])
    end

    lease = redis.call('INCR', 'lease')
    redis.call('HSET', key, 'lease', lease, 'user', hash, 'holder', holder,
               'start', now, 'sid', sid, 'end', stop, 'promised', promised,
               'rest', rest)
end

if state == 'new' then
    if rec[2] then
        local old = 'u:' .. pool .. ':' .. rec[2]

        if redis.call('GET', old) == ident then
            redis.call('DEL', old)
        end
    end

    redis.call('SET', index, ident)
    redis.call('ZADD', 'a:' .. pool, rest, ident)
end

return { 'nonce', nonce, 'lease', ident .. '-' .. lease, 'sid', sid,
         'holder', holder, 'pool', pool, 'home', conf[3], 'impi', names[1],
         'impu', names[2], 'display', names[3], 'now', tostring(now),
         'end', tostring(stop), 'ttl', conf[1], 'state', state }
