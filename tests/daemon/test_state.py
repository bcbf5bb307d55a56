"""What survives a restart, and that nothing about it can stop a start."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.daemon.state import SavedState, load_state, read_state, save_state
from rvcd.errors import RvcdError
from rvcd.params import PARAMS
from rvcd.protocol import F0_METHODS, LATENCY_PRESET_NAMES
from tests.param_values import values_of

STATE = SavedState(voice="Anna", f0_method="yin", params={"pitch": 3.0, "gate": -45.5}, mute=True, panic=True)


def test_what_is_saved_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    save_state(STATE, path)
    assert load_state(path) == (STATE, None)
    assert os.listdir(path.parent) == ["state.json"]
    assert path.stat().st_mode & 0o077 == 0


def test_bypass_is_not_resumed() -> None:
    assert not any("bypass" in name for name in vars(SavedState()))


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert load_state(tmp_path / "state.json") == (SavedState(), None)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff\xfe", b"[]", b"{", b"null", b"[" * 100_000, b'{"format": 2}', b'{"format": 1, "mute": "yes"}',
        b'{"format": 1, "params": {"pitch": "high"}}', b'{"format": 1, "params": {"pitch": NaN}}',
        b'{"format": 1, "params": {"pitch": true}}', b'{"format": 1, "speaker": -1}', b'{"format": 1, "speaker": 1e400}',
        b'{"format": 1, "speaker": ' + b"9" * 30 + b"}", b'{"format": 1, "speaker": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_a_corrupt_file_is_set_aside_with_a_warning(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    state, warning = load_state(path)
    assert state == SavedState()
    assert warning is not None
    assert "state.json.corrupt" in warning
    assert not path.exists()
    assert (tmp_path / "state.json.corrupt").read_bytes() == content
    assert load_state(path) == (SavedState(), None)


def test_looking_at_a_corrupt_file_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        read_state(path)
    assert path.exists()


def test_values_of_another_version_are_clamped_or_dropped(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"format": 1, "params": {"pitch": 99, "breath": 1}, "f0_method": "magic", "extra": 1}))
    assert load_state(path) == (SavedState(params={"pitch": 24.0}), None)


def test_an_unreadable_file_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    state, warning = load_state(tmp_path / "state.json")
    assert state == SavedState()
    assert "cannot be read" in str(warning)


def test_a_failed_write_leaves_the_old_state_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    save_state(STATE, path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RvcdError, match="No space left on device"):
        save_state(SavedState(voice="Bo"), path)
    assert read_state(path) == STATE
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RvcdError, match="cannot be saved"):
        save_state(STATE, tmp_path / "file" / "state.json")


def test_a_state_file_as_version_0_1_wrote_it_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("""{
  "format": 1,
  "voice": "Anna B",
  "speaker": 3,
  "f0_method": "rmvpe",
  "latency_preset": "safe",
  "preset": "Deep",
  "params": {
    "pitch": -5.0,
    "index_rate": 0.75,
    "gate": -45.5
  },
  "mute": true,
  "panic": false
}
""")
    expected = SavedState(
        voice="Anna B", speaker=3, f0_method="rmvpe", latency_preset="safe", preset="Deep",
        params={"pitch": -5.0, "index_rate": 0.75, "gate": -45.5}, mute=True,
    )  # fmt: skip
    assert load_state(path) == (expected, None)
    before = path.read_text()
    save_state(expected, path)
    newer = ',\n  "monitor_mute": false,\n  "monitor_source": "",\n  "pitch_mode": "",\n  "pitch_auto": 0\n}'
    assert path.read_text() == before.replace("\n}", newer)  # what came later is as configured


def test_the_monitor_is_resumed_and_a_source_that_is_none_is_as_configured(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    saved = SavedState(params={"monitor": -12.0}, monitor_mute=True, monitor_source="microphone")
    save_state(saved, path)
    assert read_state(path) == saved
    path.write_text(path.read_text().replace("microphone", "the neighbour's"))
    assert read_state(path).monitor_source == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FIELDS = dict.fromkeys(vars(SavedState()), JSON)
STATES = st.builds(
    SavedState,
    voice=st.text(max_size=64),
    speaker=st.integers(0, 2**31 - 1),
    f0_method=st.sampled_from(["", *F0_METHODS]),
    latency_preset=st.sampled_from(["", *LATENCY_PRESET_NAMES]),
    preset=st.text(max_size=64),
    params=st.fixed_dictionaries({}, optional={param.name: values_of(param) for param in PARAMS}),
    mute=st.booleans(),
    panic=st.booleans(),
)


@given(
    st.binary(max_size=200)
    | (JSON | st.fixed_dictionaries({"format": st.just(1)}, optional=FIELDS)).map(lambda document: json.dumps(document).encode())
)
def test_any_file_is_taken_or_set_aside_with_a_reason(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("state") / "state.json"
    path.write_bytes(content)
    state, warning = load_state(path)
    if warning is None:
        save_state(state, path)
        assert load_state(path) == (state, None)
    else:
        assert state == SavedState()
        assert "\n" not in warning and (path.parent / "state.json.corrupt").read_bytes() == content


@given(STATES)
def test_every_state_comes_back_as_it_was_saved(tmp_path_factory: pytest.TempPathFactory, state: SavedState) -> None:
    path = tmp_path_factory.mktemp("state") / "state.json"
    save_state(state, path)
    assert load_state(path) == (state, None)
