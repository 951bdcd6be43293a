-- Takes requests away. KEYS: queue, asked; then per request its reply.
-- ARGV: how long replies are kept in ms; then per request its key, whether it has a reply, the reply.
for at = 3, #KEYS do
  local key, replied, reply = ARGV[3 * at - 7], ARGV[3 * at - 6], ARGV[3 * at - 5]
  redis.call('ZREM', KEYS[1], key)
  redis.call('HDEL', KEYS[2], key)
  if replied == '1' then redis.call('SET', KEYS[at], reply, 'PX', ARGV[1]) end
end
return 0
