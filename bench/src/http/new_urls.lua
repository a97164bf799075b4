-- Asks for every URL once: the run's number, and a counter.
local count, run = 0, "0"

function init(args)
  run = args[1]
end

function request()
  count = count + 1
  return wrk.format("GET", "/item?n=" .. run .. "-" .. count)
end
