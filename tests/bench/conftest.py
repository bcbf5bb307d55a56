"""A user's configuration around the small test weights, given as if they were files of the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rvcd.nets.test_weights import ensure_test_weights
from tests.waiting import signals_as_at_a_terminal

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="package")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    paths = ensure_test_weights(folder)
    config = folder / "rvcd.toml"
    config.write_text(
        f'[models]\ncontent_encoder = "{paths.encoder}"\n[voices]\nfolders = ["{paths.folder}"]\nvoice = "test-buzz"\n'
        '[engine]\nthreads = 1\nprecision = "fp32"\nf0_method = "yin"\n[audio]\nrate_hz = 16000\n'
    )
    return config


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `rvcd bench` with these arguments as its user would."""

    def call(*arguments: object) -> subprocess.Popen[str]:
        folders = {name: str(tmp_path) for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR")}
        with signals_as_at_a_terminal():
            return subprocess.Popen(
                [sys.executable, "-m", "rvcd.cli.main", "bench", *map(str, arguments)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **folders},
            )  # fmt: skip

    return call
