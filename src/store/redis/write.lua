-- Writes a batch, or nothing of it.
-- KEYS: books, active, claimed; then per intent: row, body, and its claim if it has one.
-- ARGV: epoch, holder, from, to, standing, whether there is an account, account, retention in ms;
--       then per intent: reference, flags, row, with flag f the body, with flag c the order, when it
--       was claimed, and the claim. Flags: n new, a active, f full, c claimed.
local books = KEYS[1]
local held = redis.call('HMGET', books, 'version', 'epoch', 'holder', 'changes', 'node')
if not held[1] then return {'gone'} end
if held[2] ~= ARGV[1] or held[3] ~= ARGV[2] then
  return {'epoch', held[2] or '0', held[5] or ''}
end
local changes = held[4] or '0'
if changes == ARGV[4] and ARGV[3] ~= ARGV[4] then
  -- It is in. Written again, for WAIT may go by what this connection wrote (7.0 goes by all).
  redis.call('HSET', books, 'changes', changes)
  return {'in'}
end
if changes ~= ARGV[3] then return {'count', changes} end

local rows, key, arg = {}, 4, 9
while arg <= #ARGV do
  local row = {reference = ARGV[arg], row_key = KEYS[key], body_key = KEYS[key + 1], row = ARGV[arg + 2]}
  local flags = ARGV[arg + 1]
  row.new, row.active = flags:find('n'), flags:find('a')
  key, arg = key + 2, arg + 3
  if flags:find('f') then
    row.full = ARGV[arg]
    arg = arg + 1
  end
  if flags:find('c') then
    row.claim_key, row.id, row.ended_at, row.claim = KEYS[key], ARGV[arg], ARGV[arg + 1], ARGV[arg + 2]
    key, arg = key + 1, arg + 3
  end
  local is_active = redis.call('HEXISTS', KEYS[2], row.reference) == 1
  if row.new and (is_active or redis.call('EXISTS', row.row_key) == 1) then
    return {'there', row.reference}
  end
  if not row.new and not is_active then return {'absent', row.reference} end
  if row.claim then
    local claim = redis.call('GET', row.claim_key)
    if claim and claim ~= row.claim then return {'claimed', row.id} end
  end
  rows[#rows + 1] = row
end

for _, row in ipairs(rows) do
  if row.active then
    redis.call('HSET', KEYS[2], row.reference, row.row)
  else
    if not row.new then redis.call('HDEL', KEYS[2], row.reference) end
    redis.call('SET', row.row_key, row.row)
    if row.full and ARGV[8] ~= '0' then
      redis.call('SET', row.body_key, row.full, 'PX', ARGV[8])
    end
  end
  if row.claim then
    redis.call('SET', row.claim_key, row.claim)
    redis.call('ZADD', KEYS[3], row.ended_at, row.id)
  end
end
if ARGV[6] == '1' then redis.call('HSET', books, 'account', ARGV[7]) end
redis.call('HSET', books, 'changes', ARGV[4], 'standing', ARGV[5])
return {'in'}
