"""The command line, run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from rvcd.cli import main as cli
from tests.cli.machine import Machine

Rvcd: TypeAlias = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rvcd(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Rvcd:
    """Run a command line in this process; gives (exit code, stdout, stderr)."""
    # What it sets would be inherited by every process that a later test starts.
    monkeypatch.setattr(cli, "keep_to_this_machine", lambda: None)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rvcd", *map(str, arguments)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return int(code or 0), out, err

    return call


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "rvcd.toml"
        path.write_text(text)
        return path

    return write
