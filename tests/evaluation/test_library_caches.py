from __future__ import annotations

import os
from pathlib import Path

import pytest

from rvcd.evaluation.library_caches import VARIABLES, caches_of_programs, keep_library_caches


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


def test_the_libraries_keep_their_caches_below_rvcds(cache: Path) -> None:
    keep_library_caches()
    assert {Path(os.environ[name]) for name in VARIABLES} == {cache / "rvcd/matplotlib", cache / "rvcd/numba"}


def test_the_users_own_word_is_kept_to(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/fast")
    keep_library_caches()
    assert os.environ["NUMBA_CACHE_DIR"] == "/fast"


@pytest.mark.parametrize("before", ["set", None])
def test_programs_find_the_users_caches_in_rvcds_for_a_while(
    cache: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(cache))
    expected = cache / "rvcd" if before else cache / ".cache" / "rvcd"
    with caches_of_programs():
        assert os.environ["XDG_CACHE_HOME"] == str(expected)
    assert os.environ.get("XDG_CACHE_HOME") == (str(cache) if before else None)
