"""Stands in for rvcd.bench.child: does what its task's name says. Started as `python -m tests.bench.fake_child EVENTS_FD`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main() -> None:
    events = os.fdopen(int(sys.argv[1]), "w")
    message = json.loads(sys.stdin.readline())

    def tell(**fields: object) -> None:
        events.write(json.dumps(fields) + "\n")
        events.flush()

    tell(event="progress", done=0.5, doing="pretending")
    what = message["task"]
    if what == "answer":
        tell(event="result", result={"got": message["fields"]})
    elif what == "complain":
        tell(event="error", text="x.pth: is not an RVC voice")
    elif what == "be killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "crash":
        raise RuntimeError("out of luck")
    elif what == "die while writing":
        events.write('{"event": "resu')
        events.flush()
        os._exit(0)
    elif what == "hang":
        time.sleep(60)


if __name__ == "__main__":
    main()
