#!lua name=syncline_v1
-- What one call of the journal does inside Redis: all of it or nothing, because every check comes before the first write.
--
-- KEYS[1] is the lease of a shard, `{cluster.sN}:l`. All other keys of the shard have the same hash tag and are named from it:
--   :l            lease: e epoch, n node, b boot, u until (ms by this server's clock), s why it is suspect
--   :e:<entity>   one hash an entity: h head, s snapshot, d<key> known messages, o<effect> effects, t<name> timers
--   :j:<entity>   its records, one frame an element; the last one is the head's
--   :k :T :q      entities, terms and exceptions in the order of their bytes (score 0); :Q the exceptions themselves
--   :o:<connector> :t   effects and timers by when they are due (ms); :c connectors that ever had one
--   :x :z         entities by when something of them may be forgotten: their first known message, their end
--   :n            how many entities stand in which status
--   :b            counters of the standing balance
-- Times within values are 8 bytes that sort as the times do, and are compared as they are. Numbers of 64 bits stay bytes or text:
-- a number of Lua has 53 bits.

local HASH = '@HASH@'
local ZERO8 = '\0\0\0\0\0\0\0\0'
local ZERO32 = ZERO8 .. ZERO8 .. ZERO8 .. ZERO8

-- The libraries are there when a function runs, not when it is loaded.
local function sub(text, from, to) return string.sub(text, from, to or -1) end
local function byte(text, at) return string.byte(text, at or 1) end

local function number8(bytes, at)
  local high, low = struct.unpack('>I4I4', bytes, at or 1)
  return high * 4294967296 + low
end

local function time_ms(bytes)
  local high, low = struct.unpack('>I4I4', bytes)
  return string.format('%.0f', (high - 2147483648) * 4294967296 + low)
end

local function tag(keys) return sub(keys[1], 1, -3) end

-- Any number of arguments: `unpack` ends at some thousands.
local function each(command, key, list)
  for first = 1, #list, 1000 do
    redis.call(command, key, unpack(list, first, math.min(first + 999, #list)))
  end
end

-- Nothing if `epoch` holds the shard, else the refusal.
local function fenced(key, epoch)
  local lease = redis.call('HMGET', key, 'e', 'n', 's')
  if lease[1] ~= epoch or not lease[2] then return {'FENCED', lease[1] or '0'} end
  if lease[3] then return {'SUSPECT', lease[3]} end
  return nil
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The rules of acquire, renew and release stand in actors/lease.rs.
-- ARGV: node, boot, lease in ms, an epoch to be above of: one that somebody has had. A shard that knows of none was wiped.
local function acquire(keys, args)
  local lease = redis.call('HMGET', keys[1], 'e', 'n', 'b', 'u')
  local now = now_ms()
  local ours = lease[2] == args[1] and tonumber(args[2]) >= tonumber(lease[3] or '0')
  if lease[2] and tonumber(lease[4]) > now and not ours then
    return {'HELD', lease[1], lease[2], string.format('%.0f', tonumber(lease[4]) - now)}
  end
  local epoch = string.format('%.0f', math.max(tonumber(lease[1] or '0'), tonumber(args[4])) + 1)
  redis.call('HSET', keys[1], 'e', epoch, 'n', args[1], 'b', args[2],
    'u', string.format('%.0f', now + tonumber(args[3])))
  if not lease[1] and tonumber(args[4]) > 0 then
    redis.call('HSETNX', keys[1], 's', 'nothing of the shard is left, though it was held under epoch ' .. args[4])
  end
  return {'OK', epoch}
end

-- ARGV: epoch, lease in ms.
local function renew(keys, args)
  local refusal = fenced(keys[1], args[1])
  if refusal and refusal[1] == 'FENCED' then return refusal end
  redis.call('HSET', keys[1], 'u', string.format('%.0f', now_ms() + tonumber(args[2])))
  return {'OK'}
end

-- ARGV: epoch.
local function release(keys, args)
  local refusal = fenced(keys[1], args[1])
  if refusal and refusal[1] == 'FENCED' then return {'OK'} end
  redis.call('HSET', keys[1], 'e', string.format('%.0f', tonumber(args[1]) + 1))
  redis.call('HDEL', keys[1], 'n', 'b', 'u')
  return {'OK'}
end

-- KEYS[1]: all definitions. ARGV: name, text. What is kept under the name, now or since earlier.
local function keep_definition(keys, args)
  redis.call('HSETNX', keys[1], args[1], args[2])
  return redis.call('HGET', keys[1], args[1])
end

-- KEYS[1]: all orders. ARGV: name, how many there may be, the order; without it, it is taken back.
local function order(keys, args)
  if not args[3] then
    redis.call('HDEL', keys[1], args[1])
    return 1
  end
  if redis.call('HLEN', keys[1]) >= tonumber(args[2]) and redis.call('HEXISTS', keys[1], args[1]) == 0 then return 0 end
  redis.call('HSET', keys[1], args[1], args[3])
  return 1
end

-- The part of `most` slots that `node` may have. `wants`: {node, want}, those that want any. See journal/share.rs.
local function part_of(wants, node, most, now)
  table.sort(wants, function(a, b) return a[2] < b[2] or (a[2] == b[2] and a[1] < b[1]) end)
  local left, count, short, own, level = most, #wants, {}, 0, nil
  for _, one in ipairs(wants) do
    local fair = level or math.floor(left / count)
    if one[2] > fair then
      level = fair
      short[#short + 1] = one[1]
    end
    local given = math.min(one[2], fair)
    if one[1] == node then own = given end
    left, count = left - given, count - 1
  end
  for at, name in ipairs(short) do
    if name == node and (at - 1 + #short - math.floor(now / 1000) % #short) % #short < left then return own + 1 end
  end
  return own
end

-- KEYS[1]: what is kept of one connector: l level, a when it was so, t throttled until, b breaker open until, n who tries, u until;
-- h<node> what it holds: held:want:until.
-- ARGV: node, calls, per ms, burst, most slots, tokens, back, using, want, throttled ms, open ms, closed, tries, lease ms, has rate,
--   and the time, where a test compares this with the rules.
-- The rules stand in journal/share.rs.
local function share(keys, args)
  local key, node, now = keys[1], args[1], tonumber(args[16] or now_ms())
  local a = {}
  for i = 2, 15 do a[i] = tonumber(args[i]) end
  local calls, per, burst, most, tokens, back, using, want = a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]
  local throttled, open, closes, tries, lease, rated = a[10], a[11], a[12] == 1, a[13] == 1, a[14], a[15] == 1
  local kept, holders = {}, {}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if byte(all[i]) == 104 then holders[sub(all[i], 2)] = all[i + 1] else kept[all[i]] = all[i + 1] end
  end

  local throttled_until, open_until = tonumber(kept.t or '0'), tonumber(kept.b or '0')
  local trier, trial_until = kept.n or '', tonumber(kept.u or '0')
  if throttled > 0 then throttled_until = math.max(throttled_until, now + throttled) end
  if closes then open_until, trier, trial_until = 0, '', 0 end
  if open > 0 then
    open_until = math.max(open_until, now + open)
    if trier == node then trier, trial_until = '', 0 end
  end
  local closed_ms, broken, trial = math.max(throttled_until - now, 0), 0, 0
  if open_until > 0 then
    if now < open_until then
      closed_ms, broken = math.max(closed_ms, open_until - now), 1
    elseif trier ~= '' and trier ~= node and trial_until > now then
      closed_ms, broken = math.max(closed_ms, trial_until - now), 1
    elseif tries and closed_ms == 0 then
      trier, trial_until, trial = node, now + lease, 1
    else
      closed_ms, broken = math.max(closed_ms, 1), 1
    end
  end

  local others, wants, before = 0, {}, 0
  for name, text in pairs(holders) do
    local held, wanted, till = string.match(text, '^(%d+):(%d+):(%d+)$')
    if tonumber(till) <= now then
      redis.call('HDEL', key, 'h' .. name)
    elseif name == node then
      before = tonumber(held)
    else
      others = others + tonumber(held)
      if tonumber(wanted) > 0 then wants[#wants + 1] = {name, tonumber(wanted)} end
    end
  end
  if want > 0 then wants[#wants + 1] = {node, want} end
  local part = part_of(wants, node, most, now)
  local held = math.max(math.min(using, math.max(before, part)), math.min(part, math.max(most - others, 0)))
  if held > 0 or want > 0 then
    redis.call('HSET', key, 'h' .. node, string.format('%.0f:%.0f:%.0f', held, want, now + lease))
  else
    redis.call('HDEL', key, 'h' .. node)
  end

  local given, token_in = tokens, 0
  if closed_ms > 0 then given = 0 end
  if rated then
    local token = math.max(per, 1)
    local full = token * math.max(burst, 1)
    local level, at = tonumber(kept.l or full), tonumber(kept.a or now)
    local wanted = given
    level = level + math.max(now - at, 0) * calls + token * back
    level = math.min(level, full + math.min(math.max(calls - 1, 0), token - 1))
    given = math.min(math.floor(level / token), wanted)
    level = level - token * given
    if given < wanted then token_in = math.max(math.ceil(math.max(token - level, 0) / math.max(calls, 1)), 1) end
    redis.call('HSET', key, 'l', string.format('%.0f', level), 'a', string.format('%.0f', math.max(at, now)))
  end
  redis.call('HSET', key, 't', string.format('%.0f', throttled_until), 'b', string.format('%.0f', open_until),
    'n', trier, 'u', string.format('%.0f', trial_until))
  return {given, held, closed_ms, broken, trial, token_in}
end

local function holder(keys, args)
  local lease = redis.call('HMGET', keys[1], 'e', 'n', 'b', 'u', 's')
  if not lease[1] then return {'0', '', '0', '0', lease[5] or ''} end
  local left = tonumber(lease[4] or '0') - now_ms()
  return {lease[1], lease[2] or '', lease[3] or '0', string.format('%.0f', math.max(left, 0)), lease[5] or ''}
end

-- Nothing is taken in from now on. ARGV: why; empty: from now on it is again.
local function suspect(keys, args)
  if args[1] == '' then
    redis.call('HDEL', keys[1], 's')
  else
    redis.call('HSETNX', keys[1], 's', args[1])
  end
  return {'OK'}
end

-- Connector of an effect that waits: <uncertain><called off><due 8><length 4><connector>...
local function connector_of(row)
  local length = struct.unpack('>I4', row, 11)
  return sub(row, 15, 14 + length), 15 + length
end

local function call_off(t, hash, entity, effect, at, at_ms)
  local row = redis.call('HGET', hash, 'o' .. effect)
  if not row then return end
  local due = sub(row, 3, 10)
  if byte(row, 1) == 0 and at < due then
    due = at
    redis.call('ZADD', t .. ':o:' .. connector_of(row), at_ms, entity .. '\0' .. effect)
  end
  redis.call('HSET', hash, 'o' .. effect, sub(row, 1, 1) .. '\1' .. due .. sub(row, 11))
end

-- ARGV: epoch, whether it is sent again, then
--   seq - 1 and seq (8 bytes each), prev, hash, frame, head, entity, kind, at (8 bytes, ms), ended
-- and lists, each with its length before it:
--   known messages (field, value, ms or ''), settled effects, emitted effects (id, connector, ms, value), called off effects,
--   cleared timers, set timers (name, ms, value), closed exceptions, opened exceptions (id, value), terms, counters
local function append(keys, args)
  local refusal = fenced(keys[1], args[1])
  if refusal then return refusal end
  local t, entity, at, at_ms, ended = tag(keys), args[9], args[11], args[12], args[13] == '1'
  local hash = t .. ':e:' .. entity
  local i = 14
  local function list(width)
    local first, count = i + 1, tonumber(args[i])
    i = first + count * width
    return first, i - 1
  end

  local known, known_last = list(3)
  local settled, settled_last = list(1)
  local emitted, emitted_last = list(4)
  local called, called_last = list(1)
  local cleared, cleared_last = list(1)
  local set, set_last = list(3)
  local closed, closed_last = list(1)
  local opened, opened_last = list(2)
  local terms, terms_last = list(1)
  local tallies, tallies_last = list(1)

  -- Everything that decides, read at once: the head, known messages, effects that end or are issued again.
  local fields = {'h'}
  for k = known, known_last, 3 do fields[#fields + 1] = args[k] end
  local keys_last = #fields
  for k = settled, settled_last do fields[#fields + 1] = 'o' .. args[k] end
  for k = emitted, emitted_last, 4 do fields[#fields + 1] = 'o' .. args[k] end
  local stored = redis.call('HMGET', hash, unpack(fields))
  local head = stored[1]
  local waiting = {}
  for k = keys_last + 1, #fields do waiting[fields[k]] = stored[k] or nil end

  -- Seen before?
  if args[2] == '1' and head and sub(head, 1, 8) == args[4] and sub(head, 9, 40) == args[6] then
    return {'OK', 'before'}
  end
  for k = 2, keys_last do
    local value = stored[k]
    if value and (byte(value, 1) == 0 or sub(value, 2, 9) >= at) then
      local answer = sub(value, 10)
      if k > 2 then
        redis.call('HSET', hash, args[known], sub(args[known + 1], 1, 9) .. answer)
        if args[known + 2] ~= '' then redis.call('ZADD', t .. ':x', 'LT', args[known + 2], entity) end
      end
      return {'DUP', answer}
    end
  end

  -- In place?
  local seq, chain = ZERO8, ZERO32
  if head then seq, chain = sub(head, 1, 8), sub(head, 9, 40) end
  if seq ~= args[3] or chain ~= args[5] then return {'CONFLICT', seq} end

  -- From here on nothing is refused.
  redis.call('RPUSH', t .. ':j:' .. entity, args[7])
  local put, gone, earliest = {'h', args[8]}, {}, nil
  for k = known, known_last, 3 do
    put[#put + 1], put[#put + 2] = args[k], args[k + 1]
    if args[k + 2] ~= '' then
      local ms = tonumber(args[k + 2])
      if not earliest or ms < earliest then earliest = ms end
    end
  end
  if earliest then redis.call('ZADD', t .. ':x', 'LT', string.format('%.0f', earliest), entity) end

  -- What ends goes first: an effect that ends and is issued again in one record waits.
  local function leave(effect)
    local row = waiting['o' .. effect]
    if not row then return end
    redis.call('ZREM', t .. ':o:' .. connector_of(row), entity .. '\0' .. effect)
    waiting['o' .. effect] = nil
    return true
  end
  for k = settled, settled_last do
    if leave(args[k]) then gone[#gone + 1] = 'o' .. args[k] end
  end
  for k = cleared, cleared_last do
    gone[#gone + 1] = 't' .. args[k]
    redis.call('ZREM', t .. ':t', entity .. '\0' .. args[k])
  end
  each('HDEL', hash, gone)
  for k = emitted, emitted_last, 4 do
    local effect, connector, row = args[k], args[k + 1], args[k + 3]
    leave(effect)
    redis.call('SADD', t .. ':c', connector)
    redis.call('ZADD', t .. ':o:' .. connector, args[k + 2], entity .. '\0' .. effect)
    put[#put + 1], put[#put + 2] = 'o' .. effect, row
    waiting['o' .. effect] = row
  end
  for k = set, set_last, 3 do
    redis.call('ZADD', t .. ':t', args[k + 1], entity .. '\0' .. args[k])
    put[#put + 1], put[#put + 2] = 't' .. args[k], args[k + 2]
  end
  each('HSET', hash, put)
  for k = called, called_last do call_off(t, hash, entity, args[k], at, at_ms) end

  for k = closed, closed_last do
    redis.call('ZREM', t .. ':q', args[k])
    redis.call('HDEL', t .. ':Q', args[k])
  end
  for k = opened, opened_last, 2 do
    redis.call('ZADD', t .. ':q', 0, args[k])
    redis.call('HSET', t .. ':Q', args[k], args[k + 1])
  end
  for k = terms, terms_last do redis.call('ZADD', t .. ':T', 0, args[k]) end
  for k = tallies, tallies_last do redis.call('HINCRBY', t .. ':b', args[k], 1) end

  local kind, status, before = args[10], sub(args[8], 50), head and sub(head, 50)
  if status ~= before then
    redis.call('HINCRBY', t .. ':n', kind .. '\0' .. status, 1)
    if before and redis.call('HINCRBY', t .. ':n', kind .. '\0' .. before, -1) == 0 then
      redis.call('HDEL', t .. ':n', kind .. '\0' .. before)
    end
  end
  if not head then redis.call('ZADD', t .. ':k', 0, entity .. '\0') end
  if ended then
    redis.call('ZADD', t .. ':z', at_ms, entity)
  elseif head and byte(head, 49) == 1 then
    redis.call('ZREM', t .. ':z', entity)
  end
  return {'OK'}
end

-- ARGV: epoch, entity, effect, due (8 bytes, ms), uncertain, called off, frame of the progress.
local function progress(keys, args)
  local refusal = fenced(keys[1], args[1])
  if refusal then return refusal end
  local t, entity, effect, due, due_ms = tag(keys), args[2], args[3], args[4], args[5]
  local hash, field = t .. ':e:' .. entity, 'o' .. effect
  local row = redis.call('HGET', hash, field)
  if not row then return {'GONE'} end
  local uncertain, called_off, stored = args[6], args[7], sub(row, 3, 10)
  local connector, rest = connector_of(row)
  local index, member = t .. ':o:' .. connector, entity .. '\0' .. effect
  if byte(row, 2) == 1 and called_off == '\0' then
    called_off = '\1'
    if uncertain == '\0' and stored < due then
      due, due_ms = stored, redis.call('ZSCORE', index, member)
    end
  end
  local fixed = number8(row, rest)
  redis.call('ZADD', index, due_ms, member)
  redis.call('HSET', hash, field,
    uncertain .. called_off .. due .. sub(row, 11, rest + 7 + fixed) .. args[8])
  return {'OK'}
end

-- ARGV: epoch, entity, seq (8 bytes), hash, value.
local function save_snapshot(keys, args)
  local refusal = fenced(keys[1], args[1])
  if refusal then return refusal end
  local hash = tag(keys) .. ':e:' .. args[2]
  local stored = redis.call('HMGET', hash, 'h', 's')
  local seq, chain = ZERO8, ZERO32
  if stored[1] then seq, chain = sub(stored[1], 1, 8), sub(stored[1], 9, 40) end
  if args[3] == ZERO8 or args[3] > seq or (args[3] == seq and args[4] ~= chain) then
    return {'CONFLICT', seq}
  end
  if not stored[2] or sub(stored[2], 1, 8) <= args[3] then redis.call('HSET', hash, 's', args[5]) end
  return {'OK'}
end

-- ARGV: epoch, entity, how many records are kept. None goes that the snapshot does not hold. How many went.
local function trim(keys, args)
  local refusal = fenced(keys[1], args[1])
  if refusal then return refusal end
  local t = tag(keys)
  local stored = redis.call('HMGET', t .. ':e:' .. args[2], 'h', 's')
  if not stored[1] or not stored[2] then return {'OK', '0'} end
  local records, seq = t .. ':j:' .. args[2], number8(stored[1])
  local gone = seq - redis.call('LLEN', records)
  local going = math.min(seq - tonumber(args[3]), number8(stored[2])) - gone
  if going <= 0 then return {'OK', '0'} end
  redis.call('LTRIM', records, going, -1)
  return {'OK', string.format('%.0f', going)}
end

-- ARGV: entity. Snapshot, head, records after the snapshot.
local function load(keys, args)
  local t = tag(keys)
  local stored = redis.call('HMGET', t .. ':e:' .. args[1], 's', 'h')
  if not stored[2] then return {'', '', {}} end
  local records = t .. ':j:' .. args[1]
  local kept = redis.call('LLEN', records)
  local trimmed = number8(stored[2]) - kept
  local folded = stored[1] and number8(stored[1]) or 0
  if folded < trimmed then return {stored[1] or '', stored[2], {}} end
  return {stored[1] or '', stored[2], redis.call('LRANGE', records, folded - trimmed, -1)}
end

-- ARGV: entity, from, limit.
local function records(keys, args)
  local t = tag(keys)
  local head = redis.call('HGET', t .. ':e:' .. args[1], 'h')
  if not head then return {} end
  local list = t .. ':j:' .. args[1]
  local trimmed = number8(head) - redis.call('LLEN', list)
  local first = math.max(tonumber(args[2]) - 1, trimmed) - trimmed
  return redis.call('LRANGE', list, first, first + tonumber(args[3]) - 1)
end

-- ARGV: entity. Fields and rows.
local function outbox(keys, args)
  local all, found = redis.call('HGETALL', tag(keys) .. ':e:' .. args[1]), {}
  for k = 1, #all, 2 do
    if byte(all[k]) == 111 then
      found[#found + 1], found[#found + 2] = sub(all[k], 2), all[k + 1]
    end
  end
  return found
end

-- ARGV: from and to by bytes, limit. Entities and heads.
local function heads(keys, args)
  local t, found = tag(keys), {}
  for _, member in ipairs(redis.call('ZRANGEBYLEX', t .. ':k', args[1], args[2], 'LIMIT', 0, args[3])) do
    local entity = sub(member, 1, -2)
    found[#found + 1], found[#found + 2] = entity, redis.call('HGET', t .. ':e:' .. entity, 'h')
  end
  return found
end

-- Connectors, each with how many effects wait and when the first of them is due.
local function depths(keys, args)
  local t, found = tag(keys), {}
  for _, connector in ipairs(redis.call('SMEMBERS', t .. ':c')) do
    local index = t .. ':o:' .. connector
    local oldest = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
    if oldest[2] then
      found[#found + 1] = {connector, redis.call('ZCARD', index), oldest[2]}
    end
  end
  return found
end

-- ARGV: now (8 bytes, ms), ended before (ms), limit, ended ones to pass over. A part of a compaction.
local function compact(keys, args)
  local t, now, limit, passed = tag(keys), args[1], tonumber(args[4]), tonumber(args[5])
  local forgotten, trimmed = 0, 0
  local due = redis.call('ZRANGE', t .. ':x', '-inf', '(' .. args[2], 'BYSCORE', 'LIMIT', 0, limit)
  for _, entity in ipairs(due) do
    local hash = t .. ':e:' .. entity
    local all, gone, earliest = redis.call('HGETALL', hash), {}, nil
    for k = 1, #all, 2 do
      if byte(all[k]) == 100 and byte(all[k + 1]) == 1 then
        local expires = sub(all[k + 1], 2, 9)
        if expires < now then
          gone[#gone + 1] = all[k]
        elseif not earliest or expires < earliest then
          earliest = expires
        end
      end
    end
    each('HDEL', hash, gone)
    forgotten = forgotten + #gone
    if earliest then
      redis.call('ZADD', t .. ':x', time_ms(earliest), entity)
    else
      redis.call('ZREM', t .. ':x', entity)
    end
  end
  if #due == limit then return {forgotten, 0, 1, passed} end
  local ended = redis.call('ZRANGE', t .. ':z', '-inf', '(' .. args[3], 'BYSCORE', 'LIMIT', passed, limit)
  for _, entity in ipairs(ended) do
    local stored = redis.call('HMGET', t .. ':e:' .. entity, 'h', 's')
    if stored[2] and sub(stored[2], 1, 8) == sub(stored[1], 1, 8) then
      trimmed = trimmed + redis.call('LLEN', t .. ':j:' .. entity)
      redis.call('DEL', t .. ':j:' .. entity)
      redis.call('ZREM', t .. ':z', entity)
    else
      passed = passed + 1
    end
  end
  return {forgotten, trimmed, #ended == limit and 1 or 0, passed}
end

redis.register_function('syncline_v1_acquire', acquire)
redis.register_function('syncline_v1_renew', renew)
redis.register_function('syncline_v1_release', release)
redis.register_function('syncline_v1_append', append)
redis.register_function('syncline_v1_progress', progress)
redis.register_function('syncline_v1_save_snapshot', save_snapshot)
redis.register_function('syncline_v1_trim', trim)
redis.register_function('syncline_v1_compact', compact)
redis.register_function('syncline_v1_suspect', suspect)
redis.register_function('syncline_v1_keep_definition', keep_definition)
redis.register_function('syncline_v1_order', order)
redis.register_function('syncline_v1_share', share)

local function read_only(name, callback)
  redis.register_function{function_name = 'syncline_v1_' .. name, callback = callback, flags = {'no-writes'}}
end

read_only('holder', holder)
read_only('load', load)
read_only('records', records)
read_only('outbox', outbox)
read_only('heads', heads)
read_only('depths', depths)
read_only('hash', function() return HASH end)
