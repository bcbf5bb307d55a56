"""The measuring child process: with its pipe's number as argument, started by rvcd.bench.runner; its task comes on stdin."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rvcd.bench.measure import Reporter, measure
from rvcd.bench.tasks import MeasureTask, SyntheticFiles, SyntheticTask
from rvcd.errors import RvcdError
from rvcd.worker.process import die_with_parent


def write_random_weights(task: SyntheticTask, reporter: Reporter) -> dict[str, dict[str, str]]:
    """Write the random weights; return their paths by the voice's rate (as text: JSON's keys)."""
    from rvcd.bench.synthetic import write_synthetic, write_synthetic_rmvpe

    rmvpe = str(write_synthetic_rmvpe(Path(task.folder))) if task.rmvpe else ""
    written: dict[str, dict[str, str]] = {}
    encoder: Path | None = None
    for number, rate_hz in enumerate(task.rates_hz):
        reporter.event(event="progress", done=number / len(task.rates_hz), doing="writing random weights")
        models = write_synthetic(Path(task.folder), rate_hz=rate_hz)
        if encoder is not None:
            shutil.rmtree(models.encoder)  # 0.4 GB, and the same for every rate
        encoder = encoder or models.encoder
        written[str(rate_hz)] = asdict(SyntheticFiles(str(encoder), str(models.voice), str(models.index), rmvpe))
    return written


def run(message: dict[str, Any], imported_ns: int, reporter: Reporter) -> Any:
    """Do what one task says; returns the result as JSON takes it."""
    kind, task = message["task"], message["fields"]
    if kind == "synthetic":
        return write_random_weights(SyntheticTask.from_json(task), reporter)
    if kind == "compare":
        from rvcd.bench.compare import compare

        return compare(MeasureTask.from_json(task), reporter).to_json()
    return measure(MeasureTask.from_json(task), imported_ns, reporter).to_json()


def main() -> None:
    imported_ns = time.monotonic_ns()
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its children
    reporter = Reporter(int(sys.argv[1]))
    line = sys.stdin.readline()
    if not line:
        os._exit(2)  # the parent is gone already
    try:
        result = run(json.loads(line), imported_ns, reporter)
    except RvcdError as error:
        reporter.event(event="error", text=str(error))
    else:
        reporter.event(event="result", result=result)
    os._exit(0)  # torch's threads may take seconds to wind down
