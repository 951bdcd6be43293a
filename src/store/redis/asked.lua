-- The oldest requests: key, order, key, order. KEYS: queue, asked. ARGV: which is the last.
local found = {}
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[1])) do
  local order = redis.call('HGET', KEYS[2], key)
  if order then
    found[#found + 1] = key
    found[#found + 1] = order
  end
end
return found
