"""`rvcd check`: everything that would fail is found, and nothing is touched."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rvcd.audio.portaudio_devices import DeviceInfo
from rvcd.cli.checks.finding import Finding, Level
from rvcd.cli.checks.trial import TrialRequest
from rvcd.daemon.state import SavedState, save_state
from rvcd.errors import AudioDeviceError, ModelFileError
from rvcd.voices.builtin_paths import BUILT_IN_ENCODER
from rvcd.voices.registry import VoiceEntry
from tests.cli.machine import PARITY, FakeSpec, Machine


def findings(out: str) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for item in json.loads(out):
        found.setdefault(item["topic"], []).append((item["level"], item["text"]))
    return found


def test_a_working_machine_passes_the_check(machine: Machine, rvcd: Any, config: Any, tmp_path: Path) -> None:
    machine.spec = replace(machine.spec, unit_width=80, embedder="rvcd-envelope")
    code, out, _ = rvcd("check", "--config", config("[osc]\nport = 59720"))
    assert code == 0
    assert "latency   396 ms" in out
    assert out.endswith("rvcd can run\n")


def test_the_check_tries_what_the_daemon_would_resume(machine: Machine, rvcd: Any, config: Any, tmp_path: Path) -> None:
    machine.spec = replace(machine.spec, unit_width=80, embedder="rvcd-envelope")
    state = tmp_path / "XDG_STATE_HOME" / "rvcd" / "state.json"
    state.parent.mkdir(parents=True)
    save_state(SavedState(voice="anna", f0_method="yin", latency_preset="safe"), state)
    path = config("[osc]\nport = 59720")
    machine.trial = [Finding(Level.FAIL, "voice", "anna.pth: tensor 'x' holds NaN or infinity")]
    code, out, _ = rvcd("check", "--config", path)
    assert machine.tried == [TrialRequest(str(path), "anna", "yin", "safe")]
    assert code == 1
    assert "fail  voice     anna.pth: tensor 'x' holds NaN" in out


def test_a_quick_check_loads_nothing_opens_nothing_and_hashes_nothing(
    machine: Machine, rvcd: Any, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.spec = replace(machine.spec, unit_width=80, embedder="rvcd-envelope")
    machine.closed = AudioDeviceError("must not be opened")
    monkeypatch.setattr("rvcd.voices.assets.sha256_of", None)
    code, out, _ = rvcd("check", "--quick", "--config", config("[osc]\nport = 59720"))
    assert (code, machine.tried) == (0, [])
    assert "it opens" not in out


def test_what_the_headers_told_is_not_tried(machine: Machine, rvcd: Any, config: Any) -> None:
    machine.broken = ModelFileError("anna.pth: is cut short")
    assert rvcd("check", "--config", config("[osc]\nport = 59720"))[0] == 1
    assert machine.tried == []


def test_a_device_that_does_not_open_fails_the_check(machine: Machine, rvcd: Any, config: Any) -> None:
    machine.spec = replace(machine.spec, unit_width=80, embedder="rvcd-envelope")
    machine.closed = AudioDeviceError("Desk microphone cannot run at 48000 Hz: use 44100 Hz")
    code, out, _ = rvcd("check", "--config", config("[osc]\nport = 59720"))
    assert code == 1
    assert "fail  device    Desk microphone cannot run at 48000 Hz: use 44100 Hz" in out


def test_an_input_channel_that_the_device_does_not_have_fails_the_check(machine: Machine, rvcd: Any, config: Any) -> None:
    machine.spec = replace(machine.spec, unit_width=80, embedder="rvcd-envelope")
    code, out, _ = rvcd("check", "--config", config("[audio]\ninput_channel = 3\n[osc]\nport = 59720"))
    assert code == 1
    assert "audio.input_channel is 3, but Desk microphone has 1; choose 1..1, or 0 for all of them" in out


def test_the_check_finds_everything_that_would_fail(machine: Machine, rvcd: Any, config: Any, tmp_path: Path) -> None:
    path = config(
        '[audio]\ninput = "piano"\n[models]\nrmvpe = "none.pt"\n[engine]\nf0_method = "rmvpe"\n'
        '[osc]\nhost = "203.0.113.9"\nallow = ["203.0.113.0/24"]\n'
    )
    code, out, _ = rvcd("check", "--json", "--config", path)
    assert code == 1
    failed = {topic: text for topic, found in findings(out).items() for level, text in found if level == "fail"}
    assert failed.keys() == {"device", "models", "voice", "osc"}
    assert "'piano' was not found" in failed["device"]
    assert "none.pt does not exist" in failed["models"]
    assert "needs the content encoder of RVC voices, which is not here: `rvcd assets fetch`" in failed["voice"]


def test_a_checksum_that_differs_fails_the_check(machine: Machine, rvcd: Any, config: Any, tmp_path: Path) -> None:
    (tmp_path / "hubert.pt").write_bytes(b"cut short")
    path = config(f'[models]\ncontent_encoder = "hubert.pt"\n[models.sha256]\ncontent_encoder = "{"0" * 64}"\n')
    ((level, text),) = findings(rvcd("check", "--json", "-c", path)[1])["models"]
    assert level == "fail"
    assert "download it again" in text


def half(path: Path) -> bytes:
    return path.read_bytes()[: path.stat().st_size // 2]


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 189507909\n"
UNFIT = {
    "half.pt": half(PARITY / "hubert_tiny_fairseq.pt"), "half_rmvpe.pt": half(PARITY / "rmvpe_tiny.pt"), "pointer.pt": LFS,
    "half.safetensors": half(BUILT_IN_ENCODER), "page.pt": b"<!DOCTYPE html><html>", "empty.pt": b"",
    "onnx.pt": b"\x08\x07\x12\x07pytorch\x1a\x051.13.1:" + bytes(range(256)),
    "voice.pt": (PARITY / "v2_40k_f0.pth").read_bytes(),
    "index.pt": (PARITY / "added_IVF8_Flat_nprobe_1_kit_v2.index").read_bytes(),
}  # fmt: skip


@pytest.mark.parametrize("key", ["content_encoder", "rmvpe"])
@pytest.mark.parametrize("name", UNFIT)
def test_a_model_file_that_the_worker_could_not_load_fails_the_check(
    machine: Machine, rvcd: Any, config: Any, tmp_path: Path, key: str, name: str
) -> None:
    (tmp_path / name).write_bytes(UNFIT[name])
    code, out, err = rvcd("check", "--json", "-c", config(f'[models]\n{key} = "{name}"\n'))
    assert (code, err) == (1, "")
    failed = [text for level, text in findings(out)["models"] if level == "fail"]
    assert len(failed) == 1
    assert failed[0].startswith(f"models.{key}: {tmp_path / name}: ") and "\n" not in failed[0]
    assert "download" in failed[0]


def test_model_files_that_are_whole_pass_and_bits_that_flipped_do_not(
    machine: Machine, rvcd: Any, config: Any, tmp_path: Path
) -> None:
    machine.spec = FakeSpec(unit_width=48)
    content = bytearray((PARITY / "rmvpe_tiny.pt").read_bytes())
    (tmp_path / "rmvpe.pt").write_bytes(content)
    path = config(f'[models]\ncontent_encoder = "{PARITY / "hubert_tiny_fairseq.pt"}"\nrmvpe = "rmvpe.pt"\n')
    assert {level for level, _ in findings(rvcd("check", "--json", "-c", path)[1])["models"]} == {"note"}
    content[len(content) // 2] ^= 1
    (tmp_path / "rmvpe.pt").write_bytes(content)
    code, out, _ = rvcd("check", "--json", "-c", path)
    assert code == 1
    assert "rmvpe.pt: is damaged" in findings(out)["models"][1][1]


def test_a_voice_that_the_content_encoder_makes_no_units_for_fails_the_check(machine: Machine, rvcd: Any, config: Any) -> None:
    encoder = PARITY / "hubert_tiny_fairseq.pt"
    code, out, _ = rvcd("check", "--json", "-c", config(f'[models]\ncontent_encoder = "{encoder}"\n'))
    assert code == 1
    ((level, text),) = findings(out)["voice"]
    assert level == "fail"
    assert f"{encoder}: makes units of width 48 or 16, but the voice takes width 768" in text


def test_what_the_system_refuses_is_no_fault_of_rvcd(machine: Machine, rvcd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.broken = OSError(24, "Too many open files", "/some/file")
    assert rvcd("devices") == (1, "", "rvcd: /some/file: too many open files (RVCD_DEBUG=1 shows where)\n")


def test_without_a_sound_card_auto_runs_virtually_and_portaudio_fails(machine: Machine, rvcd: Any, config: Any) -> None:
    machine.devices = []
    found = findings(rvcd("check", "--json")[1])["device"]
    assert [level for level, _ in found] == ["note", "ok"]
    assert "demo speech, looped" in found[1][1]
    ((level, text),) = findings(rvcd("check", "--json", "-c", config('[audio]\nbackend = "portaudio"'))[1])["device"]
    assert level == "fail"
    assert "virtual" in text


def test_the_check_says_what_would_be_resumed_and_touches_nothing(machine: Machine, rvcd: Any, tmp_path: Path) -> None:
    state = tmp_path / "XDG_STATE_HOME" / "rvcd" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"format": 1, "voice": "Bo", "panic": true}')
    ((level, text),) = findings(rvcd("check", "--json")[1])["state"]
    assert (level, machine.resumed) == ("note", "Bo")
    assert "panic on" in text
    state.write_text("{")
    ((level, text),) = findings(rvcd("check", "--json")[1])["state"]
    assert level == "note"
    assert state.read_text() == "{"


def test_the_latency_that_would_be_resumed_adds_up(machine: Machine, rvcd: Any, tmp_path: Path) -> None:
    state = tmp_path / "XDG_STATE_HOME" / "rvcd" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"format": 1, "latency_preset": "safe"}')
    ((_, text),) = findings(rvcd("check", "--json")[1])["latency"]
    total, *parts = map(int, re.findall(r"(?:^|block |lookahead |synthesis |deadline )(\d+)", text))
    assert len(parts) == 4 and total == sum(parts) == 496


def test_the_check_says_what_a_denoiser_adds_or_that_none_is_there(machine: Machine, rvcd: Any, config: Any) -> None:
    def said(text: str) -> Any:
        return findings(rvcd("check", "--json", "--config", config(text))[1])

    loaded = said('[engine]\ndenoiser = "gtcrn"\n[params]\ndenoise = 0.5')
    ((level, text),) = loaded["denoiser"]
    assert level == "ok" and text.startswith("gtcrn adds 36 ms to the latency") and text.endswith("at the first start it is 0.5")
    assert "432 ms" in loaded["latency"][0][1] and "block 140 + denoiser 36 + lookahead 100" in loaded["latency"][0][1]
    ((level, text),) = said("[params]\ndenoise = 0.5")["denoiser"]
    assert level == "note" and "does nothing" in text and 'engine.denoiser = "gtcrn"' in text
    assert "denoiser" not in said("")


@pytest.mark.parametrize(
    ("virtual", "words"),
    [
        ('input = "hello.txt"', "not an audio file"),
        ('input = "tone:5000"', "tone:5000 needs an audio.rate_hz of more than twice that"),
        ('output = "out.txt"', "must end in one of .wav"),
    ],
)
def test_the_check_tries_what_the_virtual_device_would_play(
    machine: Machine, rvcd: Any, config: Any, tmp_path: Path, virtual: str, words: str
) -> None:
    (tmp_path / "hello.txt").write_text("hello")
    path = config(f'[audio]\nbackend = "virtual"\nrate_hz = 8000\n[audio.virtual]\n{virtual}\n')
    ((level, text),) = findings(rvcd("check", "--json", "-c", path)[1])["device"]
    assert level == "fail" and words in text


def test_the_check_notes_an_index_that_does_not_fit_and_the_voice_runs_without_it(
    machine: Machine, rvcd: Any, config: Any, tmp_path: Path
) -> None:
    index = Path(__file__).parents[1] / "data" / "parity" / "added_IVF8_Flat_nprobe_1_kit_v1.index"
    machine.voice, machine.spec = (
        VoiceEntry(1, "anna", tmp_path / "anna.pth", index),
        FakeSpec(unit_width=80, embedder="rvcd-envelope"),
    )
    ((level, text),) = findings(rvcd("check", "--json")[1])["voice"]
    assert level == "note" and text.startswith(f"anna runs without its index: {index}: is an index of width 256")
    assert "width 80" in text


@pytest.mark.parametrize("exists", [False, True])
def test_the_check_notes_an_index_that_cannot_be_read(machine: Machine, rvcd: Any, tmp_path: Path, exists: bool) -> None:
    index = tmp_path / "anna.index"
    if exists:
        index.write_text("hello")
    machine.voice, machine.spec = (
        VoiceEntry(1, "anna", tmp_path / "anna.pth", index),
        FakeSpec(unit_width=80, embedder="rvcd-envelope"),
    )
    ((level, text),) = findings(rvcd("check", "--json")[1])["voice"]
    reason = "is not a FAISS index" if exists else "does not exist"
    assert level == "note" and text.startswith(f"anna runs without its index: {index}: {reason}")


def test_no_voice_at_all_is_a_failure(machine: Machine, rvcd: Any) -> None:
    machine.voice = None
    ((level, text),) = findings(rvcd("check", "--json")[1])["voice"]
    assert level == "fail"
    assert "there is no voice" in text


def test_the_check_finds_a_jack_server_of_another_rate(machine: Machine, rvcd: Any, config: Any, tmp_path: Path) -> None:
    machine.devices = [DeviceInfo(0, "system", "JACK Audio Connection Kit", 2, 2, 44100, 0.0, 5.0)]
    code, out, _ = rvcd("check", "--config", config("[osc]\nport = 9799\n"))
    assert code == 1
    assert "audio.rate_hz is 48000, but the JACK server runs at 44100 Hz" in out
