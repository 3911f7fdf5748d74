-- Reports what became of calls, and asks how the circuit stands, in one round trip.
-- KEYS[1]: the circuit, a hash. No key: closed, and nothing is known. All times are milliseconds of this server's clock.
-- Returns {state, ms until there may be a probe, round, whether the caller may probe}.
local key = KEYS[1]
local window, least, rate = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local open_for, probes, probe_for = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local good, bad, wants_probe = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] == '1'
local round, probe_good, probe_bad, probe_back = ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local circuit, flat = {}, redis.call('HGETALL', key)
for i = 1, #flat, 2 do circuit[flat[i]] = flat[i + 1] end
local state = circuit.state or 'closed'

local function replace(fields)
  redis.call('DEL', key)
  circuit = fields
  for name, value in pairs(fields) do redis.call('HSET', key, name, value) end
end
local function begin(name, lasts)
  state = name
  local number = math.max(now, tonumber(circuit.round or 0) + 1)  -- never twice, also within one millisecond
  replace({ state = name, ends = string.format('%.0f', now + lasts), round = string.format('%.0f', number),
            given = 0, passed = 0 })
end
local function open() begin('open', open_for) end
local function begin_probing() begin('half_open', probe_for) end

-- Probes: of this round only; one that was begun before the circuit opened again says nothing about now.
if state == 'half_open' and round == circuit.round then
  if probe_bad > 0 then
    open()
  else
    circuit.given = redis.call('HINCRBY', key, 'given', -probe_back)
    circuit.passed = redis.call('HINCRBY', key, 'passed', probe_good)
    if circuit.passed >= probes then
      state, circuit = 'closed', {}
      redis.call('DEL', key)
    end
  end
end

-- Ordinary calls count while the circuit is closed, in tenths of the window.
if state == 'closed' and good + bad > 0 then
  local slice = math.floor(now / (window / 10))
  local seen, failed = good + bad, bad
  for name, value in pairs(circuit) do
    local kind, at = string.match(name, '^(%a):(%d+)$')
    if kind then
      if slice - tonumber(at) >= 10 then
        redis.call('HDEL', key, name)
      else
        seen = seen + (kind == 's' and tonumber(value) or 0)
        failed = failed + (kind == 'f' and tonumber(value) or 0)
      end
    end
  end
  if bad > 0 and seen >= least and failed >= rate * seen then
    open()
  else
    redis.call('HINCRBY', key, 's:' .. string.format('%.0f', slice), good + bad)
    if bad > 0 then redis.call('HINCRBY', key, 'f:' .. string.format('%.0f', slice), bad) end
  end
end

if state == 'open' and now >= tonumber(circuit.ends) and wants_probe then begin_probing() end
if state == 'half_open' and now >= tonumber(circuit.ends) then begin_probing() end  -- its probes never came back
local may_probe, wait = 0, 0
if state == 'half_open' then
  if tonumber(circuit.given) >= probes then
    wait = tonumber(circuit.ends) - now
  elseif wants_probe then
    redis.call('HINCRBY', key, 'given', 1)
    may_probe = 1
  end
elseif state == 'open' then
  wait = math.max(0, tonumber(circuit.ends) - now)
end
if redis.call('EXISTS', key) == 1 then
  redis.call('PEXPIRE', key, math.ceil(math.max(window, open_for, probe_for) * 2))
end
return { state, wait, circuit.round or '', may_probe }
