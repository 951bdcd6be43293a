-- Gives the lease out if nobody else's lasts, with a new epoch.
-- KEYS: books, lease, active, claimed. ARGV: node, holder, length in ms, version.
local held = redis.call('HMGET', KEYS[1], 'version', 'node')
if held[1] and tonumber(held[1]) > tonumber(ARGV[4]) then return {'newer', held[1]} end
if not held[1] and redis.call('EXISTS', KEYS[1], KEYS[3], KEYS[4]) > 0 then return {'gone'} end
local left = redis.call('PTTL', KEYS[2])
if left ~= -2 and held[2] ~= ARGV[1] then return {'held', held[2] or '', tostring(left)} end
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'version', ARGV[4], 'holder', ARGV[2], 'node', ARGV[1])
redis.call('SET', KEYS[2], epoch, 'PX', ARGV[3])
return {'taken', tostring(epoch)}
