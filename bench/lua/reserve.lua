-- wrk: reserve one seat, each request another one, neighbouring requests on different trips.
-- Arguments: trips, first number; and, for a part of the way, departures, routes, stops and the last stop's position.
local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  trips = tonumber(args[1])
  counter = tonumber(args[2]) + number
  departures, routes = tonumber(args[3]), tonumber(args[4])
  stops, last = tonumber(args[5]), tonumber(args[6])
end

function request()
  local trip = counter % trips + 1
  local place = math.floor(counter / trips)
  local seat = (math.floor(place / 4) + 1) .. string.char(65 + place % 4)
  local way = ""
  if last then
    local route = math.floor((trip - 1) % (routes * departures) / departures)
    way = string.format('"from":"S0","to":"S%d",', route * (stops - 1) + last)
  end
  local body = string.format(
    '{"tripId":"00000000-0000-7000-8000-%012x","seatNumbers":["%s"],%s' ..
    '"passengers":[{"name":"Grace Achieng","seatNumber":"%s"}],' ..
    '"contact":{"name":"Grace Achieng","email":"grace@example.com","phone":"+256772%06d"}}',
    trip, seat, way, seat, counter % 1000000)
  counter = counter + 2
  return wrk.format("POST", "/api/bookings/reserve", {["Content-Type"] = "application/json"}, body)
end

function done(summary, latency, requests)
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"errors":%d,"refused":%d,' ..
    '"p50_us":%d,"p99_us":%d,"max_us":%d}\n',
    summary.requests, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    summary.errors.status, latency:percentile(50), latency:percentile(99), latency.max))
end
