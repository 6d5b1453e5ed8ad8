-- The requests that wrk sends: `wrk -s requests.lua URL -- WORKLOAD USERS SEED`. Each line of the file USERS is a user:
--   reader|creator  name  id of the first task  step to the next id  number of tasks  token
-- The users take turns. Creators and readers are different users, so that the readers' tasks stay as they were seeded.

local make, turn, seed = {}, 0, 0
local users = { reader = {}, creator = {} }

-- wrk builds one request for each that it sends. It does not count requests that are in flight when the time is up.
sent = 0

function init(args)
  for line in io.lines(args[2]) do
    local role, name, first, step, tasks, token = line:match("(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)")
    local user = { path = "/api/" .. name .. "/tasks", first = tonumber(first), step = tonumber(step), tasks = tonumber(tasks) }
    user.headers = { Authorization = "Bearer " .. token, ["Content-Type"] = "application/json" }
    table.insert(users[role], user)
  end
  seed = args[3]
  math.randomseed(tonumber(seed))
  request = function()
    turn = turn + 1
    sent = turn
    return make[args[1]]()
  end
end

local function next_of(group)
  return group[turn % #group + 1]
end

local function one_of(user)
  return user.path .. "/" .. (user.first + user.step * math.random(0, user.tasks - 1))
end

function make.health()
  return wrk.format("GET", "/health")
end

function make.get()
  local user = next_of(users.reader)
  return wrk.format("GET", one_of(user), user.headers)
end

function make.list()
  local user = next_of(users.reader)
  return wrk.format("GET", user.path .. "?limit=50", user.headers)
end

function make.all()
  local user = next_of(users.reader)
  return wrk.format("GET", user.path .. "?limit=1000", user.headers)
end

function make.post()
  local user = next_of(users.creator)
  local body = '{"title": "Buy milk", "description": "Oat, two litres, number ' .. turn .. '"}'
  return wrk.format("POST", user.path, user.headers, body)
end

function make.patch()
  local user = next_of(users.reader)
  -- No title comes twice, so every request changes something.
  return wrk.format("PATCH", one_of(user), user.headers, '{"title": "Changed by ' .. seed .. ' in turn ' .. turn .. '"}')
end

-- Of ten requests, seven read one task, two list, and one writes: a new task and a change take turns.
function make.mix()
  local place = turn % 10
  if place < 7 then return make.get() end
  if place < 9 then return make.list() end
  return turn % 20 == 9 and make.post() or make.patch()
end

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function done(summary, latency, requests)
  local errors, all = summary.errors, 0
  for _, thread in ipairs(threads) do all = all + thread:get("sent") end
  print(string.format(
    'RESULT {"completed": %d, "sent": %d, "seconds": %f, "bad_status": %d, "failed": %d, "p50": %f, "p95": %f, "p99": %f}',
    summary.requests, all, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000
  ))
end
