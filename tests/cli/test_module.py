"""`python -m rvcd.cli` is `rvcd`, for those that know an interpreter and no script on the path, as the tests of the daemon do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rvcd.protocol import PROTOCOL_VERSION

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["rvcd.cli", "rvcd.cli.main"])
def test_the_package_and_its_main_module_run_as_the_command(module: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, "version"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith(f"(OSC protocol {PROTOCOL_VERSION})\n")
