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
UNITS = {
    "user": ROOT / "systemd" / "user" / "rvcd.service",
    "user@": ROOT / "systemd" / "user" / "rvcd@.service",
    "system": ROOT / "systemd" / "system" / "rvcd.service",
    "system@": ROOT / "systemd" / "system" / "rvcd@.service",
}
EXPOSURE_AT_MOST = {"user": 6.7, "system": 1.9}
OF_A_NAME = {
    "Description=rvcd, live voice conversion": "Description=rvcd %i, live voice conversion",
    "StateDirectory=rvcd": "StateDirectory=rvcd/rvcd@%i",
    "ExecStart=%h/.local/bin/rvcd run": "ExecStart=%h/.local/bin/rvcd run --name=%i",
    "ExecStart=/usr/local/bin/rvcd run": "ExecStart=/usr/local/bin/rvcd run --name=%i",
}
"""What a template has in place of a line of the unit without a name. %i, not %I: that would make a / of a -."""


def analyze(*arguments: str, runtime: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (make test installs it where it may)")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, env=environment)


@pytest.fixture(params=sorted(UNITS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def with_program(unit: Path, folder: Path) -> Path:
    """Copy a unit with a program that exists: verify looks for it. A template becomes the unit of one name."""
    program = folder / "rvcd"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    copy = folder / unit.name.replace("@", "@deep-voice_2")
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={program}", unit.read_text()))
    return copy


def test_systemd_finds_nothing_wrong_with_the_unit(kind: str, tmp_path: Path) -> None:
    scope = ["--user"] if kind.startswith("user") else []
    result = analyze("verify", "--man=no", *scope, str(with_program(UNITS[kind], tmp_path)), runtime=tmp_path)
    assert (result.returncode, result.stderr.strip()) == (0, "")


def test_the_exposure_stays_low(kind: str, tmp_path: Path) -> None:
    result = analyze("security", "--offline=yes", str(with_program(UNITS[kind], tmp_path)), runtime=tmp_path)
    found = re.search(r"exposure level for rvcd\S*\.service: ([\d.]+)", result.stdout)
    assert found, result.stdout + result.stderr
    assert float(found[1]) <= EXPOSURE_AT_MOST[kind.rstrip("@")]


def test_the_unit_starts_the_installed_command(kind: str) -> None:
    program = {"user": "%h/.local/bin/rvcd", "system": "/usr/local/bin/rvcd"}[kind.rstrip("@")]
    name = " --name=%i" if kind.endswith("@") else ""
    assert f"\nExecStart={program} run{name}\n" in UNITS[kind].read_text()


@pytest.mark.parametrize("which", ["user", "system"])
def test_the_template_differs_from_the_unit_in_what_a_name_has_for_itself_alone(which: str) -> None:
    def settings(unit: Path) -> list[str]:
        return [line for line in unit.read_text().splitlines() if not line.startswith("#")]

    unit = [line for line in settings(UNITS[which]) if line]
    template = [line for line in settings(UNITS[f"{which}@"]) if line]
    assert template == [OF_A_NAME.get(line, line) for line in unit]
    assert sum(line != other for line, other in zip(unit, template, strict=True)) == 3


def test_the_unit_holds_the_decided_settings(kind: str) -> None:
    lines = UNITS[kind].read_text().splitlines()
    for line in (
        "Type=notify", "WatchdogSec=10", "Restart=on-failure", "RestartSec=2", "StartLimitBurst=5", "StartLimitIntervalSec=120",
        "LimitRTPRIO=80", "LimitMEMLOCK=infinity", "UMask=0077", "ExecReload=/bin/kill -HUP $MAINPID",
        "RuntimeDirectory=rvcd", "RuntimeDirectoryPreserve=yes",  # of all of them together
    ):  # fmt: skip
        assert line in lines
    for key in ("MemoryDenyWriteExecute", "PrivateDevices", "CPUSchedulingPolicy", "RestrictRealtime"):
        assert not any(line.startswith(f"{key}=") for line in lines), f"{key} breaks sound or torch"


def test_the_install_script_writes_units_systemd_accepts_even_with_spaces_and_percents_in_the_path(tmp_path: Path) -> None:
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
    folder = tmp_path / "config" / "systemd" / "user"
    for unit, words in (("rvcd.service", "run"), ("rvcd@.service", "run --name=%i")):
        assert f'ExecStart="{str(venv).replace("%", "%%")}/bin/rvcd" {words}\n' in (folder / unit).read_text()
    for unit in ("rvcd.service", "rvcd@deep.service"):
        result = analyze("verify", "--man=no", "--user", str(folder / unit), runtime=tmp_path)
        assert (result.returncode, result.stderr.strip()) == (0, "")
