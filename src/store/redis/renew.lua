-- Prolongs the lease, also one that has ended if nobody took it since.
-- KEYS: books, lease. ARGV: epoch, holder, length in ms.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'holder')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[2], held[1], 'PX', ARGV[3])
return 1
