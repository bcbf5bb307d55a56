"""The measuring child: whatever becomes of it, the parent says it in a sentence and leaves nothing running."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rvcd.bench.runner import ChildDied, run_child
from rvcd.errors import RvcdError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(what: str, progress: Callable[[float, str], None] = lambda done, doing: None, **fields: object) -> Any:
        return run_child(what, fields, progress, command=(sys.executable, "-m", "tests.bench.fake_child"))

    return run


def test_a_child_gets_its_task_and_tells_how_far_it_is(child: Callable[..., Any]) -> None:
    told: list[tuple[float, str]] = []
    assert child("answer", lambda done, doing: told.append((done, doing)), seconds=3) == {"got": {"seconds": 3}}
    assert told == [(0.5, "pretending")]


def test_a_measurement_knows_when_its_process_was_started(child: Callable[..., Any]) -> None:
    before_ns = time.monotonic_ns()
    spawned_ns = child("answer", setup={})["got"]["spawned_ns"]
    assert before_ns <= spawned_ns <= time.monotonic_ns()


def test_what_a_user_can_mend_comes_through_as_it_is(child: Callable[..., Any]) -> None:
    with pytest.raises(RvcdError, match=r"^x\.pth: is not an RVC voice$") as caught:
        child("complain")
    assert not isinstance(caught.value, ChildDied)


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("be killed", "the measuring process was killed (SIGKILL): most likely the machine ran out of memory"),
        ("crash", "the measuring process ended early (exit status 1): RuntimeError: out of luck"),
        ("die while writing", "the measuring process ended early (exit status 0)"),
        ("say nothing", "the measuring process ended early (exit status 0)"),
    ],
)
def test_a_child_that_dies_is_one_sentence(child: Callable[..., Any], what: str, sentence: str) -> None:
    with pytest.raises(ChildDied) as caught:
        child(what)
    assert str(caught.value) == sentence


def test_an_interrupted_parent_leaves_no_child_behind(child: Callable[..., Any]) -> None:
    def interrupt(done: float, doing: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child("hang", interrupt)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
