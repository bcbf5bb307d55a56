"""Runs the measuring children, one at a time, each fresh: what one case leaves in memory or caches cannot help the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from rvcd.bench.tasks import Compared, Measured, MeasureTask, SyntheticFiles, SyntheticTask
from rvcd.errors import RvcdError
from rvcd.ipc.python_module import module_command

Advance = Callable[[float, str], None]
"""Takes what is done, 0..1, and what is being done."""
CHILD_COMMAND = module_command("rvcd.bench.child")


class ChildDied(RvcdError):
    """The measuring child ended without a result. The message is a sentence about why."""


def measure(task: MeasureTask, progress: Advance) -> Measured:
    """Measure one case. Raises RvcdError for what is wrong with the files, ChildDied when the child crashed."""
    return Measured.from_json(run_child("measure", task.to_json(), progress))


def compare(task: MeasureTask, progress: Advance) -> Compared:
    """Measure one case against upstream's way. Raises as measure does."""
    return Compared.from_json(run_child("compare", task.to_json(), progress))


def write_synthetic(task: SyntheticTask, progress: Advance) -> dict[int, SyntheticFiles]:
    """Write random weights; return them by the voice's rate. Raises RvcdError when they cannot be written."""
    written = run_child("synthetic", task.to_json(), progress)
    return {int(rate_hz): SyntheticFiles(**files) for rate_hz, files in written.items()}


def run_child(
    kind: str, fields: Mapping[str, Any], progress: Advance, *, command: Sequence[str] = CHILD_COMMAND
) -> dict[str, Any]:
    """Run one task in a child of its own and return its result. However this ends, the child has ended too."""
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as events, tempfile.TemporaryFile() as complaints:
        spawned_ns = time.monotonic_ns()
        try:
            process = subprocess.Popen(
                [*command, str(writing)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints, pass_fds=(writing,),
            )  # fmt: skip
        finally:
            os.close(writing)
        try:
            _send(process, {"task": kind, "fields": {**fields, "spawned_ns": spawned_ns} if "setup" in fields else fields})
            result = _follow(events, progress)
        except BaseException:
            process.kill()
            raise
        finally:
            status = process.wait()
        if result is None:
            raise ChildDied(_describe_death(status, complaints))
        return result


def _send(process: subprocess.Popen[bytes], message: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    try:
        with process.stdin as pipe:
            pipe.write(json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        pass  # it is dead already: its status says why


def _follow(events: IO[str], progress: Advance) -> dict[str, Any] | None:
    """Read events until the child ends. Raises RvcdError with the child's sentence. None: it ended without a result."""
    for line in events:
        if not line.endswith("\n"):
            return None  # it died while it wrote
        message = json.loads(line)
        if message["event"] == "progress":
            progress(message["done"], message["doing"])
        elif message["event"] == "error":
            raise RvcdError(message["text"])
        else:
            result: dict[str, Any] = message["result"]
            return result
    return None


def _describe_death(status: int, complaints: IO[bytes]) -> str:
    if status < 0:
        name = signal.Signals(-status).name if -status in signal.Signals.__members__.values() else f"signal {-status}"
        reason = ": most likely the machine ran out of memory" if status == -signal.SIGKILL else ""
        return f"the measuring process was killed ({name}){reason}"
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return f"the measuring process ended early (exit status {status}){': ' + lines[-1].strip() if lines else ''}"
