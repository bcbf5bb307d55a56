"""The units: what systemd itself says about them, and what they must and must not contain."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = {"user": ROOT / "systemd" / "user" / "rvcd.service", "system": ROOT / "systemd" / "system" / "rvcd.service"}
EXPOSURE_AT_MOST = {"user": 6.7, "system": 1.9}


def analyze(*arguments: str, runtime: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (make test installs it where it may)")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, env=environment)


@pytest.fixture(params=sorted(UNITS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_program(unit: Path, folder: Path) -> Path:
    """Copy a unit with a program that exists: verify looks for it."""
    program = folder / "rvcd"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    copy = folder / unit.name
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={program}", unit.read_text()))
    return copy


def test_systemd_finds_nothing_wrong_with_the_unit(kind: str, tmp_path: Path) -> None:
    scope = ["--user"] if kind == "user" else []
    result = analyze("verify", "--man=no", *scope, str(with_program(UNITS[kind], tmp_path)), runtime=tmp_path)
    assert (result.returncode, result.stderr.strip()) == (0, "")


def test_the_exposure_stays_low(kind: str, tmp_path: Path) -> None:
    result = analyze("security", "--offline=yes", str(with_program(UNITS[kind], tmp_path)), runtime=tmp_path)
    found = re.search(r"exposure level for rvcd\.service: ([\d.]+)", result.stdout)
    assert found, result.stdout + result.stderr
    assert float(found[1]) <= EXPOSURE_AT_MOST[kind]


def test_the_unit_starts_the_installed_command(kind: str) -> None:
    program = {"user": "%h/.local/bin/rvcd", "system": "/usr/local/bin/rvcd"}[kind]
    assert f"\nExecStart={program} run\n" in UNITS[kind].read_text()


def test_the_unit_holds_the_decided_settings(kind: str) -> None:
    lines = UNITS[kind].read_text().splitlines()
    for line in (
        "Type=notify", "WatchdogSec=10", "Restart=on-failure", "RestartSec=2", "StartLimitBurst=5", "StartLimitIntervalSec=120",
        "LimitRTPRIO=80", "LimitMEMLOCK=infinity", "UMask=0077", "StateDirectory=rvcd", "ExecReload=/bin/kill -HUP $MAINPID",
    ):  # fmt: skip
        assert line in lines
    for key in ("MemoryDenyWriteExecute", "PrivateDevices", "CPUSchedulingPolicy", "RestrictRealtime"):
        assert not any(line.startswith(f"{key}=") for line in lines), f"{key} breaks sound or torch"


def test_the_install_script_writes_a_unit_systemd_accepts_even_with_spaces_and_percents_in_the_path(tmp_path: Path) -> None:
    venv = tmp_path / "my 100% voice" / "venv"
    (venv / "bin").mkdir(parents=True)
    shutil.copy(sys.executable, venv / "bin" / "rvcd")
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    subprocess.run([ROOT / "tools" / "install_service.sh", venv], check=True, env=environment, capture_output=True, timeout=120)
    unit = tmp_path / "config" / "systemd" / "user" / "rvcd.service"
    assert f'ExecStart="{str(venv).replace("%", "%%")}/bin/rvcd" run\n' in unit.read_text()
    result = analyze("verify", "--man=no", "--user", str(unit), runtime=tmp_path)
    assert (result.returncode, result.stderr.strip()) == (0, "")
