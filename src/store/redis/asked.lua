-- The oldest requests: key, order, key, order. KEYS: queue, asked. ARGV: how many at most.
local found = {}
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)) do
  local order = redis.call('HGET', KEYS[2], key)
  if order then
    found[#found + 1] = key
    found[#found + 1] = order
  end
end
return found
