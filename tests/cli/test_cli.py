"""The command line: what each command asks of the rest, and that a user never sees a traceback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rvcd.audio.portaudio_devices import DeviceInfo
from rvcd.cli import main as cli
from rvcd.cli.checks.finding import Finding, Level
from rvcd.cli.checks.trial import TrialRequest
from rvcd.config.settings import DEFAULT_CONFIG, Settings
from rvcd.daemon.state import SavedState, save_state
from rvcd.daemon.worker import WorkerChild
from rvcd.errors import AudioDeviceError, ModelFileError
from rvcd.params import BY_NAME
from rvcd.protocol import PROTOCOL_VERSION
from rvcd.voices.builtin_paths import BUILT_IN_ENCODER
from rvcd.voices.registry import VoiceEntry
from tests.waiting import signals_as_at_a_terminal

PARITY = Path(__file__).parents[1] / "data" / "parity"
MICROPHONE = DeviceInfo(0, "Desk microphone", "ALSA", 1, 0, 48000, 5.0, 0.0)
SPEAKERS = DeviceInfo(1, "Speakers", "ALSA", 0, 2, 48000, 0.0, 5.0)


@dataclass(frozen=True)
class FakeSpec:
    version: str = "v2"
    rate_hz: int = 40000
    unit_width: int = 768
    unit_layer: int = 0
    embedder: str = ""


class Machine:
    """What the commands find: fakes in the place of sound, voices, the engine and the daemon."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.devices: list[DeviceInfo] = [MICROPHONE, SPEAKERS]
        self.spec = FakeSpec()
        self.voice: VoiceEntry | None = VoiceEntry(1, "anna", tmp_path / "anna.pth", None)
        self.broken: Exception | None = None
        self.rendered: list[Any] = []
        self.ran: list[Settings] = []
        self.resumed = ""
        self.closed: Exception | None = None
        self.tried: list[TrialRequest] = []
        self.trial = [Finding(Level.OK, "trial", "everything was loaded, and anna converts")]
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            monkeypatch.setenv(name, str(tmp_path / name))
        for name in ("RVCD_CONFIG", "RVCD_DEBUG", "STATE_DIRECTORY", "CACHE_DIRECTORY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("rvcd.config.folders.SYSTEM_CONFIG", tmp_path / "no.toml")
        monkeypatch.setattr("rvcd.audio.portaudio_devices.list_devices", self._list_devices)
        monkeypatch.setattr("rvcd.audio.configured.open_once", self._open)
        monkeypatch.setattr("rvcd.cli.checks.trial.trial_findings", self._try_out)
        monkeypatch.setattr("rvcd.formats.voice_header.read_voice_spec", self._read_voice)
        monkeypatch.setattr("rvcd.voices.configured.scan_voices", lambda settings: None)
        monkeypatch.setattr("rvcd.voices.configured.first_voice", self._first_voice)
        monkeypatch.setattr("rvcd.daemon.main.run", self._run)
        monkeypatch.setattr("rvcd.config.logs.setup", lambda level: None)
        engine: Any = ModuleType("rvcd.rendering.file")  # the real one imports torch
        engine.RenderRequest = dict
        engine.render_file = self._render
        monkeypatch.setitem(sys.modules, "rvcd.rendering.file", engine)

    def _open(self, settings: Settings) -> None:
        if self.closed:
            raise self.closed

    def _try_out(self, request: TrialRequest) -> list[Finding]:
        self.tried.append(request)
        return self.trial

    def _list_devices(self) -> list[DeviceInfo]:
        if self.broken:
            raise self.broken
        return self.devices

    def _read_voice(self, path: Path) -> FakeSpec:
        if self.broken:
            raise self.broken
        return self.spec

    def _first_voice(self, settings: Settings, registry: None, resumed: str) -> VoiceEntry | None:
        self.resumed = resumed
        return self.voice

    async def _run(self, settings: Settings, worker: WorkerChild) -> None:
        self.ran.append(settings)

    def _render(self, settings: Settings, request: dict[str, Any], progress: Any) -> Any:
        self.rendered.append(request)
        progress(1.0)
        result: Any = ModuleType("result")
        result.voice, result.rate_hz, result.duration_s, result.compute_s = "anna", 40000, 10.0, 2.0
        result.notes = ()
        return result


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


def findings(out: str) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for item in json.loads(out):
        found.setdefault(item["topic"], []).append((item["level"], item["text"]))
    return found


# ---- the command line itself


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["render"], ["check", "--nope"], ["render", "a", "b", "--pitch", "99"], ["voice"]]
)
def test_a_wrong_command_line_is_explained_and_exits_with_2(arguments: list[str], rvcd: Any) -> None:
    code, out, err = rvcd(*arguments)
    assert code == 2
    assert "Usage: rvcd" in out + err


def test_the_version_names_the_protocol(rvcd: Any) -> None:
    code, out, _ = rvcd("version")
    assert code == 0
    assert out.startswith("rvcd ")
    assert f"OSC protocol {PROTOCOL_VERSION}" in out


def test_every_problem_of_a_configuration_has_its_line(machine: Machine, rvcd: Any, config: Any) -> None:
    path = config("[audio]\nrate = 3\n[params]\npitch = 99\n")
    for command in (["check"], ["run"], ["assets"], ["voice", "list"]):
        code, _, err = rvcd(*command, "--config", path)
        assert code == 1
        assert err.splitlines() == [
            f"{path} has 2 problem(s):",
            "  audio.rate: unknown key; did you mean 'rate_hz'?",
            "  params.pitch: 99 is too large; it takes a number, -24..24 semitones",
        ]


def test_a_fault_of_our_own_is_one_line_too(machine: Machine, rvcd: Any) -> None:
    machine.broken = ZeroDivisionError("division by zero")
    code, _, err = rvcd("devices")
    assert code == 70
    assert err == "rvcd: internal error: ZeroDivisionError: division by zero (a fault in rvcd; RVCD_DEBUG=1 shows where)\n"


def test_an_interruption_is_quiet(machine: Machine, rvcd: Any) -> None:
    machine.broken = KeyboardInterrupt()  # type: ignore[assignment]
    code, _, err = rvcd("devices")
    assert code in (1, 130)
    assert len(err.splitlines()) <= 2


def test_a_closed_pipe_is_quiet() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    command = f"'{sys.executable}' -m rvcd.cli.main config | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, env=environment)
    assert result.stderr == ""


# ---- config


def test_config_prints_the_documented_default(rvcd: Any) -> None:
    assert rvcd("config") == (0, DEFAULT_CONFIG.read_text(), "")


def test_config_writes_a_file_once(rvcd: Any, tmp_path: Path) -> None:
    target = tmp_path / "new" / "rvcd.toml"
    assert rvcd("config", "--write", target)[0] == 0
    assert target.read_text() == DEFAULT_CONFIG.read_text()
    target.write_text("mine")
    code, _, err = rvcd("config", "--write", target)
    assert (code, err) == (1, f"rvcd: {target}: exists already, and is kept; choose another name\n")
    assert target.read_text() == "mine"


# ---- run


def test_run_starts_the_daemon_with_the_settings(machine: Machine, rvcd: Any, config: Any) -> None:
    assert rvcd("run", "--config", config("[osc]\nport = 9999"))[0] == 0
    assert [settings.osc.port for settings in machine.ran] == [9999]


def test_only_rvcd_itself_writes_to_stderr_while_it_runs(machine: Machine, rvcd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def noisy(settings: Settings, worker: WorkerChild) -> None:
        os.write(2, b"ALSA lib pcm.c: underrun occurred\n")
        print("12:00:00 INFO daemon: live", file=sys.stderr)

    monkeypatch.setattr("rvcd.daemon.main.run", noisy)
    assert rvcd("run")[2] == "12:00:00 INFO daemon: live\n"
    monkeypatch.setenv("RVCD_DEBUG", "1")
    assert "underrun" in rvcd("run")[2]


# ---- render


def test_render_hands_over_what_was_asked(machine: Machine, rvcd: Any, tmp_path: Path) -> None:
    source = tmp_path / "in.wav"
    source.touch()
    code, out, _ = rvcd(
        "render", source, tmp_path / "out.wav", "--voice", "anna", "--pitch", "-3", "--gain-out", "2.5", "--f0-method", "yin"
    )
    assert code == 0
    assert machine.rendered == [
        {
            "source": source, "target": tmp_path / "out.wav", "voice": "anna", "index": "", "f0_method": "yin", "rate_hz": 0,
            "params": {"pitch": -3.0, "gain_out": 2.5}, "channels": "1", "loudness_lufs": None, "force": False,
        }
    ]  # fmt: skip
    assert out == f"{tmp_path / 'out.wav'}: 10.0 s, 40000 Hz, voice anna (5.0 x real time)\n"


def test_render_keeps_an_existing_file_unless_forced(machine: Machine, rvcd: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    source.touch()
    target.touch()
    code, _, err = rvcd("render", source, target)
    assert (code, err) == (1, f"rvcd: {target}: exists already; --force replaces it\n")
    assert rvcd("render", source, target, "--force")[0] == 0


def test_render_says_what_is_wrong_with_a_path(machine: Machine, rvcd: Any, tmp_path: Path) -> None:
    missing, folder, there = tmp_path / "missing.wav", tmp_path, tmp_path / "there.wav"
    there.touch()
    assert rvcd("render", missing, tmp_path / "out.wav")[2] == f"rvcd: {missing}: does not exist; check the path\n"
    assert rvcd("render", "/dev/null", tmp_path / "out.wav")[2] == "rvcd: /dev/null: is no audio file\n"
    assert rvcd("render", folder, there)[2].startswith(f"rvcd: {there}: is a file; several inputs, a folder or a pattern are")
    assert machine.rendered == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "2"], "--jobs: is for many files, and out.wav is one; write into a folder (out.wav/) to use it"),
        (["--resume"], "--resume: is for many files"),
        (["--json"], "--json: is for many files"),
        (["--report", "r.json"], "--report: is for many files"),
        (["--format", "flac"], "--format flac: out.wav has another extension"),
    ],
)
def test_what_is_for_many_files_is_refused_for_one(machine: Machine, rvcd: Any, words: list[str], said: str) -> None:
    code, _, err = rvcd("render", __file__, "out.wav", *words)
    assert code == 1 and err.startswith(f"rvcd: {said}") and machine.rendered == []


def test_render_needs_a_place_to_write_to(rvcd: Any) -> None:
    code, _, err = rvcd("render", "a.wav")
    assert code == 2 and "name what to convert, and then the file or folder to write" in err


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Batches that were asked for, instead of being run; each has a file that is done and one that failed."""
    import rvcd.rendering.batch as module
    from rvcd.rendering.messages import Levels, Rendered
    from rvcd.rendering.report import BatchReport, Row, Status

    asked: list[Any] = []

    def run_batch(settings: Settings, request: Any, watcher: Any) -> BatchReport:
        asked.append(request)
        made = Rendered("anna", 40000, 1, 3.0, 1.0, 1.5, Levels(-1.0, -18.0, 7), Levels(None, None, 0), ("a note",))
        rows = (Row("a.wav", "out/a.wav", Status.DONE, rendered=made), Row("b.wav", "", Status.FAILED, "b.wav: is bad"))
        watcher.begins(2, 1)
        watcher.file_begins(0, "a.wav")
        watcher.file_advances(0, 0.5)
        for number, row in enumerate(rows):
            watcher.file_ends(number, row)
        watcher.says("in: something")
        report = BatchReport(rows, 2.0, 1, "anna", "hash")
        if request.jobs == 9:
            raise module.Interrupted(signal.SIGTERM, report)
        return report

    monkeypatch.setattr(module, "run_batch", run_batch)
    return asked


@pytest.mark.parametrize(
    "words", [["in", "out"], ["a.wav", "out/"], ["a.wav", "b.wav", "out"], ["in/*.wav", "out"], ["a.wav", "in"]]
)
def test_several_inputs_a_folder_or_a_pattern_are_a_batch(
    machine: Machine, rvcd: Any, batches: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    code, out, err = rvcd("render", *words, "--pitch", "2", "--format", "FLAC", "--resume", "--loudness", "-16")
    (request,) = batches
    assert (request.inputs, request.out) == (tuple(words[:-1]), Path(words[-1])) and machine.rendered == []
    assert (request.params, request.format, request.resume, request.loudness_lufs, request.jobs) == (
        {"pitch": 2.0}, "flac", True, -16.0, 0,
    )  # fmt: skip
    assert code == 1, "a file failed"
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[1] == ["a.wav", "done", "3.0", "2.0 x", "-", "7, 0", "-", "a note"]
    assert rows[2][1::6] == ["failed", "is bad"]
    assert rows[3] == ["1 done, 1 failed: 3.0 s of audio in 2.0 s (1.5 x real time), 1 worker(s), voice anna"]
    assert err.splitlines() == [
        "1 of 2: done: out/a.wav (3.0 s, 2.0 x real time)", "2 of 2: failed: b.wav: is bad", "in: something",
    ]  # fmt: skip


def test_a_batch_prints_json_and_ends_as_its_signal_says(machine: Machine, rvcd: Any, batches: list[Any], tmp_path: Path) -> None:
    code, out, err = rvcd("render", tmp_path, tmp_path / "out", "--json", "--jobs", "9")
    assert json.loads(out)["files"][1]["error"] == "b.wav: is bad"
    assert code == 128 + signal.SIGTERM and err.endswith("rvcd: interrupted; the same command with --resume goes on\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_render_that_is_told_to_end_cleans_up_first(
    machine: Machine, rvcd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    part = tmp_path / "out.wav.part"

    def interrupted(*_: Any) -> None:
        part.touch()
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            part.unlink()

    monkeypatch.setattr(sys.modules["rvcd.rendering.file"], "render_file", interrupted)
    with signals_as_at_a_terminal():
        before = signal.getsignal(number)
        assert rvcd("render", __file__, tmp_path / "out.wav")[0] == 128 + number
        assert not part.exists() and signal.getsignal(number) == before


def test_render_offers_every_parameter(rvcd: Any) -> None:
    _, out, _ = rvcd("render", "--help")
    for option in ("--pitch", "--formant", "--index-rate", "--protect", "--rms-mix", "--gate", "--gain-in", "--gain-out"):
        assert option in out


# ---- devices, assets


def test_devices_are_listed_for_people_and_scripts(machine: Machine, rvcd: Any) -> None:
    _, out, _ = rvcd("devices")
    assert out.splitlines()[1].split("\t") == ["0", "Desk microphone", "ALSA", "1", "0", "48000"]
    _, out, _ = rvcd("devices", "--json")
    assert json.loads(out)[1]["name"] == "Speakers"
    machine.devices = []
    assert "virtual device" in rvcd("devices")[1]


def test_the_osc_reference_is_listed_for_people_scripts_and_the_readme(rvcd: Any) -> None:
    _, out, _ = rvcd("osc", "--list")
    rows = {row.split("\t")[0]: row.split("\t")[1:] for row in out.splitlines()}
    pitch = BY_NAME["pitch"]
    assert rows["/rvc/pitch"] == ["f or i; none asks", "-24..24 semitones", "/rvc/pitch ,f", pitch.doc, "/rvc/pitch f 1"]
    assert "group meters" in rows["/rvc/meter/in/peak"][3]
    _, out, _ = rvcd("osc", "--json")
    assert {"address", "arguments", "range", "reply", "doc", "example"} == set(json.loads(out)[0])
    _, out, _ = rvcd("osc", "--markdown")
    assert out.startswith("| Address |")
    assert rvcd("osc", "--markdown", "--json")[0] == 1


def test_a_missing_sound_library_is_one_line(machine: Machine, rvcd: Any) -> None:
    machine.broken = AudioDeviceError("PortAudio is not installed: run `sudo apt install libportaudio2`")
    assert rvcd("devices") == (1, "", "rvcd: PortAudio is not installed: run `sudo apt install libportaudio2`\n")


def test_assets_names_what_to_download_and_what_is_there(machine: Machine, rvcd: Any, config: Any, tmp_path: Path) -> None:
    _, out, _ = rvcd("assets")
    assert "hubert_base.pt\t189,507,909" in out
    assert "f54b40fd2802423a5643779c4861af1e9ee9c1564dc9d32f54f20b5ffba7db96" in out
    assert "present" not in out
    (tmp_path / "own.pt").write_bytes(b"mine")
    _, out, _ = rvcd("assets", "-c", config('[models]\ncontent_encoder = "own.pt"'))
    assert f"models.content_encoder = {tmp_path / 'own.pt'}: not a published file\n" in out


# ---- check


def test_a_working_machine_passes_the_check(machine: Machine, rvcd: Any, config: Any, tmp_path: Path) -> None:
    machine.spec = replace(machine.spec, unit_width=56, embedder="rvcd-lite")
    code, out, _ = rvcd("check", "--config", config("[osc]\nport = 59720"))
    assert code == 0
    assert "latency   396 ms" in out
    assert out.endswith("rvcd can run\n")


def test_the_check_tries_what_the_daemon_would_resume(machine: Machine, rvcd: Any, config: Any, tmp_path: Path) -> None:
    machine.spec = replace(machine.spec, unit_width=56, embedder="rvcd-lite")
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
    machine.spec = replace(machine.spec, unit_width=56, embedder="rvcd-lite")
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
    machine.spec = replace(machine.spec, unit_width=56, embedder="rvcd-lite")
    machine.closed = AudioDeviceError("Desk microphone cannot run at 48000 Hz: use 44100 Hz")
    code, out, _ = rvcd("check", "--config", config("[osc]\nport = 59720"))
    assert code == 1
    assert "fail  device    Desk microphone cannot run at 48000 Hz: use 44100 Hz" in out


def test_an_input_channel_that_the_device_does_not_have_fails_the_check(machine: Machine, rvcd: Any, config: Any) -> None:
    machine.spec = replace(machine.spec, unit_width=56, embedder="rvcd-lite")
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
        FakeSpec(unit_width=56, embedder="rvcd-lite"),
    )
    ((level, text),) = findings(rvcd("check", "--json")[1])["voice"]
    assert level == "note" and text.startswith(f"anna runs without its index: {index}: is an index of width 256")
    assert "width 56" in text


@pytest.mark.parametrize("exists", [False, True])
def test_the_check_notes_an_index_that_cannot_be_read(machine: Machine, rvcd: Any, tmp_path: Path, exists: bool) -> None:
    index = tmp_path / "anna.index"
    if exists:
        index.write_text("hello")
    machine.voice, machine.spec = (
        VoiceEntry(1, "anna", tmp_path / "anna.pth", index),
        FakeSpec(unit_width=56, embedder="rvcd-lite"),
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
