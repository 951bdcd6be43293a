-- Puts requests where they are absent. What was answered to one before is forgotten.
-- KEYS: queue, asked; then per request its reply. ARGV: per request its key and its order.
local time = redis.call('TIME')
local now = time[1] .. string.format('%06d', tonumber(time[2]))
for at = 3, #KEYS do
  local key, order = ARGV[2 * at - 5], ARGV[2 * at - 4]
  redis.call('DEL', KEYS[at])
  if redis.call('HSETNX', KEYS[2], key, order) == 1 then
    redis.call('ZADD', KEYS[1], now, key)
  end
end
return 0
