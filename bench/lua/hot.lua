-- wrk: everybody wants a seat of one trip, any of them. Arguments: rows of four seats. Counts answers by status.
local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  rows = tonumber(args[1])
  won, taken, broken, other = 0, 0, 0, 0
  math.randomseed(number + 7)
end

function request()
  local seat = math.random(rows) .. string.char(64 + math.random(4))
  local body = '{"tripId":"00000000-0000-7000-8000-000000000001","seatNumbers":["' .. seat .. '"]}'
  return wrk.format("POST", "/api/bookings/reserve", {["Content-Type"] = "application/json"}, body)
end

function response(status)
  if status == 201 then won = won + 1
  elseif status == 409 then taken = taken + 1
  elseif status >= 500 then broken = broken + 1
  else other = other + 1 end
end

function done(summary, latency, requests)
  local sums = {won = 0, taken = 0, broken = 0, other = 0}
  for _, thread in ipairs(threads) do
    for name in pairs(sums) do sums[name] = sums[name] + thread:get(name) end
  end
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"errors":%d,"refused":%d,' ..
    '"p50_us":%d,"p99_us":%d,"max_us":%d,"won":%d,"taken":%d,"broken":%d,"other":%d}\n',
    summary.requests, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    summary.errors.status, latency:percentile(50), latency:percentile(99), latency.max,
    sums.won, sums.taken, sums.broken, sums.other))
end
