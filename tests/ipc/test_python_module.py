"""A child of rvcd imports nothing from the folder in which the user happens to be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rvcd.bench.runner import CHILD_COMMAND
from rvcd.cli.checks.trial import COMMAND as TRIAL_COMMAND
from rvcd.daemon.monitor_process import COMMAND as MONITOR_COMMAND
from rvcd.daemon.recording import COMMAND as RECORDER_COMMAND
from rvcd.daemon.worker import WORKER_COMMAND
from rvcd.rendering.pool import COMMAND as RENDER_COMMAND
from tests.waiting import HANG_S

TRAPS = ("rvcd", "torch", "numpy", "json", "msgspec", "faiss", "soundfile", "pydantic")
COMMANDS = {
    "worker": WORKER_COMMAND, "recorder": RECORDER_COMMAND, "monitor": MONITOR_COMMAND, "trial": TRIAL_COMMAND,
    "bench": CHILD_COMMAND, "render": RENDER_COMMAND}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_lie_in_the_current_folder_are_not_run(name: str, tmp_path: Path) -> None:
    for trap in TRAPS:
        (tmp_path / f"{trap}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'a').write({trap!r})\nraise SystemExit(77)\n")
    done = subprocess.run(
        [*COMMANDS[name], "0"], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=HANG_S,
    )  # fmt: skip
    assert not (tmp_path / "run").exists()
    assert done.returncode != 77
    assert "main" in done.stderr or not done.stderr  # it came as far as its own first look at what it was given
