-- The load of wrk. Before this the program writes the parameters: token; url,
-- a folder's path; secrets, how many there are to read, or 0 to write new
-- ones; body; seed, different each time.

local head, tail
local written = 0

function init()
  math.randomseed(seed)
  wrk.headers["X-Vault-Token"] = token
  local method, content = "GET", nil
  if secrets == 0 then
    method, content = "POST", body
  end
  local whole = wrk.format(method, url .. "@", nil, content)
  local at = whole:find("@", 1, true)
  head, tail = whole:sub(1, at - 1), whole:sub(at + 1)
end

function request()
  if secrets == 0 then
    written = written + 1
    return head .. seed .. "-" .. written .. tail
  end
  local n = math.random(0, secrets - 1)
  return head .. "f" .. math.floor(n / 1000) .. "/k" .. n % 1000 .. tail
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"micros":%d,"p50":%d,"p99":%d,"failed":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status + e.read + e.write + e.connect + e.timeout))
end
