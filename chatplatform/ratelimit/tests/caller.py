"""A process full of callers: `python -m chatplatform.ratelimit.tests.caller URL CALLS SKEW [clocked]`.

All calls are made at once, when the key `go` appears; prints how many passed. SKEW (s) is how wrong this host's clock
is; `clocked` uses the script whose clock stands still.
"""

from __future__ import annotations

import sys
import threading
import time

from redis import Redis

from chatplatform.ratelimit import Level, Limiter
from chatplatform.ratelimit.limiter import ADMIT, MINUTE
from chatplatform.ratelimit.tests.clock import CLOCKED

LEVELS = [Level("user", "user", 100), Level("tenant", "tenant", 60, 10**9), Level("global", "global", 10**6)]
TOKENS = 7


def main(url: str, calls: int, skew: float, script: str = "") -> int:
    right = time.time
    time.time = lambda: right() + skew
    time.time_ns = lambda: int((right() + skew) * 1e9)
    limiter = Limiter(
        Redis.from_url(url, protocol=2, socket_timeout=30), MINUTE, CLOCKED if script else ADMIT
    )
    passed: list[bool] = []
    connected, go = threading.Semaphore(0), threading.Barrier(calls + 1)

    def call(number: int) -> None:
        limiter.client.ping()
        connected.release()
        go.wait()
        passed.append(limiter.admit(LEVELS, tokens=TOKENS, call=f"call:{skew}:{number}").passed)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(calls)]
    for thread in threads:
        thread.start()
    for _ in threads:
        connected.acquire()
    limiter.client.incr("ready")
    while not limiter.client.exists("go"):
        pass
    go.wait()
    for thread in threads:
        thread.join()
    assert len(passed) == calls
    return sum(passed)


if __name__ == "__main__":
    sys.stdout.write(str(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:])))
