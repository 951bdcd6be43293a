-- Ends the lease, if it is still this one. KEYS: books, lease. ARGV: epoch, holder.
local held = redis.call('HMGET', KEYS[1], 'epoch', 'holder')
if held[1] == ARGV[1] and held[2] == ARGV[2] then redis.call('DEL', KEYS[2]) end
return 0
