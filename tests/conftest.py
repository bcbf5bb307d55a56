"""Set-up of every test: one thread for computing, nothing of the user's own touched, no connection to another machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from rvcd.ipc.segment import AudioSegment
from tests.only_this_machine import sitecustomize as only_this_machine
from tests.waiting import HANG_S

# Tiny networks on two busy cores: one thread computes them faster than two that wait for each other.
for _library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# How long an example takes is no property of the code: a busy machine takes as long as it likes.
settings.register_profile("rvcd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rvcd")

ROOT = Path(__file__).parents[1]
_GUARD = str(Path(only_this_machine.__file__).parent)
if _GUARD not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (_GUARD, os.environ.get("PYTHONPATH"))))


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Where tests run in parallel: those that share a fixture of their file stay together, in their order; those with JACK too.

    What --dist=loadgroup promises, which does nothing with pytest 9.2 and pytest-xdist 3.8.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _company_of(nodeid)


def _company_of(nodeid: str) -> str:
    file = nodeid.split("::")[0]
    text = _text_of(file)
    if "jack_server" in text:
        return "JACK"
    return file if 'scope="module"' in text else nodeid


@cache
def _text_of(file: str) -> str:
    return (ROOT / file).read_text()


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Together:
    return Together(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """Write lone surrogates, which some tests log on purpose, in a form that gets from pytest-xdist's workers to the terminal."""
    return _speakable((yield))


def _speakable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _speakable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_speakable(each) for each in value)
    return value


@pytest.fixture(scope="session", autouse=True)
def _folders_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from the user's own folders, or written there."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("STATE", "CONFIG", "CACHE"):
            patch.setenv(f"XDG_{name}_HOME", str(tmp_path_factory.mktemp(f"xdg-{name.lower()}")))
        # Of rvcd alone: a test's sound server stays where its own XDG_RUNTIME_DIR is.
        patch.setenv("RUNTIME_DIRECTORY", str(tmp_path_factory.mktemp("runtime")))
        patch.setenv(only_this_machine.REPORT, str(tmp_path_factory.mktemp("connections") / "attempts"))
        yield


@pytest.fixture(autouse=True)
def _no_connection_to_another_machine(_folders_of_the_tests: None) -> Iterator[None]:
    """Fail a test during which this process, or one that it started, tried to reach another machine."""
    yield
    report = Path(os.environ[only_this_machine.REPORT])
    if report.exists():
        attempts = report.read_text().splitlines()
        report.unlink()
        pytest.fail("another machine was asked for:\n" + "\n".join(attempts))


@pytest.fixture
def segment() -> Iterator[AudioSegment]:
    with AudioSegment.create(48000) as created:
        yield created


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool], float], bool]:
    """Return a function that waits for a condition, and says whether it came true. Its limit only ends a hang."""

    def wait(condition: Callable[[], bool], limit_s: float = HANG_S) -> bool:
        deadline_s = time.monotonic() + max(limit_s, HANG_S)
        while time.monotonic() < deadline_s:
            if condition():
                return True
            time.sleep(0.02)
        return condition()

    return wait
