"""The boundaries that docs/architecture.md draws, and that the control process stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "faiss", "transformers", "onnxruntime", "scipy", "pyworld", "swift_f0", "textual")


def imported_by(code: str) -> set[str]:
    """Return the names of all modules a fresh interpreter holds after running code."""
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_the_import_contracts_hold() -> None:
    checked = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], capture_output=True, text=True, cwd=ROOT, timeout=100,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_control_process_holds_no_torch() -> None:
    modules = imported_by(
        "import rvcd.cli.main, rvcd.cli.checks.report, rvcd.daemon.main, rvcd.audio.device, rvcd.audio.virtual,"
        "rvcd.audio.device_supervisor"
    )
    assert not modules & {*HEAVY, "sounddevice", "pynvml"}


@pytest.mark.parametrize(
    "module",
    [
        "rvcd.formats.voice_header",
        "rvcd.formats.contentvec_header",
        "rvcd.voices.registry",
        "rvcd.voices.voice_toml",
        "rvcd.voices.importing",
        "rvcd.voices.test_weight_paths",
    ],
)
def test_what_the_control_process_reads_of_voices_needs_no_numpy(module: str) -> None:
    assert not imported_by(f"import {module}") & {*HEAVY, "numpy"}


def test_the_command_line_alone_is_light() -> None:
    assert not imported_by("import rvcd.cli.main") & {
        *HEAVY,
        "numpy",
        "pydantic",
        "sounddevice",
        "soundfile",
        "asyncio",
        "rvcd.daemon",
    }


def test_the_terminal_client_holds_no_part_of_the_daemon() -> None:
    modules = imported_by("import rvcctl.cli, rvcctl.app")
    allowed = {
        "rvcd.protocol", "rvcd.params", "rvcd.errors", "rvcd.standard_streams", "rvcd.instance", "rvcd.running", "rvcd.osc",
        "rvcd.osc.codec",
    }  # fmt: skip
    assert {name for name in modules if name.startswith("rvcd.")} <= allowed
    assert not modules & {"torch", "numpy", "sounddevice", "pydantic"}


@pytest.mark.parametrize(
    "name",
    [
        "protocol", "errors", "params", "geometry", "standard_streams", "yielding",
        "osc/names", "config/logs", "daemon/state", "daemon/presets",
        "daemon/json_store", "daemon/log_tail", "daemon/systemd", "voices/assets", "worker/process",
    ],
)  # fmt: skip
def test_these_need_the_standard_library_only(name: str) -> None:
    tree = ast.parse((ROOT / "rvcd" / f"{name}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in imported} <= {*sys.stdlib_module_names, "rvcd"}


def test_the_start_up_time_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import time; t = time.perf_counter(); import rvcd.daemon.main; from rvcd.config import settings; settings.load_config()"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"{code}; print(round(1000 * (time.perf_counter() - t)))"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    with capsys.disabled():
        print(f"\nthe control process imports and reads its configuration in {result.stdout.strip()} ms")
