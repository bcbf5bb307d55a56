"""What the commands find in their tests: fakes in the place of sound, voices, the engine and the daemon."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rvcd.audio.portaudio_devices import DeviceInfo
from rvcd.cli.checks.finding import Finding, Level
from rvcd.cli.checks.trial import TrialRequest
from rvcd.config.settings import Settings
from rvcd.daemon.worker import WorkerChild
from rvcd.voices.registry import VoiceEntry

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
