-- wrk: reserve one seat over the whole way, each request another seat, neighbouring requests on different trips.
-- Arguments: trips, first number. Prints one line of JSON that bench/load.py reads.
local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  trips = tonumber(args[1])
  counter = tonumber(args[2]) + number
end

function request()
  local trip = counter % trips + 1
  local place = math.floor(counter / trips)
  local seat = (math.floor(place / 4) + 1) .. string.char(65 + place % 4)
  local body = string.format(
    '{"tripId":"00000000-0000-7000-8000-%012x","seatNumbers":["%s"],' ..
    '"passengers":[{"name":"Grace Achieng","seatNumber":"%s"}],' ..
    '"contact":{"name":"Grace Achieng","email":"grace@example.com","phone":"+256772%06d"}}',
    trip, seat, seat, counter % 1000000)
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
