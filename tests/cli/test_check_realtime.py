"""What `rvcd check` says about real time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rvcd.audio.device_supervisor import DeviceState, DeviceSupervisor
from rvcd.audio.scheduling import WORKER_NICE, Grants, Promotion, Scheduling
from rvcd.audio.virtual import VirtualDevice, VirtualRequest
from rvcd.cli.checks.finding import Finding, Level
from rvcd.cli.checks.realtime import realtime_findings
from rvcd.config.settings import Settings, parse_config
from rvcd.ipc.segment import AudioSegment


def settings(audio: dict[str, Any]) -> Settings:
    return parse_config({"audio": audio}, Path("rvcd.toml"))


def granted(monkeypatch: pytest.MonkeyPatch, promotion: Promotion, nice: int, memory: str = "") -> list[Finding]:
    """Return the findings on a machine that grants so much."""
    monkeypatch.setattr("rvcd.cli.checks.realtime.try_out", lambda: Grants(promotion, nice))
    monkeypatch.setattr(AudioSegment, "lock_memory", lambda self: memory)
    return realtime_findings(settings({"backend": "portaudio"}))


def test_it_reports_what_the_running_device_thread_gets(wait_until: Any) -> None:
    virtual = {"backend": "virtual", "virtual": {"input": "null"}}
    first = realtime_findings(settings(virtual))[0]
    with AudioSegment.create(48000) as segment:
        supervisor = DeviceSupervisor(lambda: VirtualDevice(VirtualRequest(), segment), segment)
        supervisor.start()
        assert wait_until(lambda: supervisor.poll() is DeviceState.RUNNING and supervisor.scheduling is not None, 20)
        supervisor.poll()
        running = supervisor.scheduling
        assert supervisor.stop()
    assert f"gets {running}," in first.text
    assert (first.level is Level.OK) is (running is not None and running.realtime)
    for limit in ("RTPRIO", "MEMLOCK", "NICE"):
        assert limit in first.text


def test_a_device_without_time_needs_no_real_time() -> None:
    assert realtime_findings(settings({"backend": "virtual", "virtual": {"realtime": False}})) == []


def test_a_generous_machine_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = granted(monkeypatch, Promotion(Scheduling("FIFO", 60, 0), ""), WORKER_NICE)
    assert finding.level is Level.OK
    assert "a device thread of this user gets FIFO 60" in finding.text


def test_each_limit_that_is_too_low_gets_a_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Promotion(Scheduling("OTHER", 0, 0), "the limit RTPRIO is 0")
    summary, *problems = granted(monkeypatch, refused, 0, "the limit MEMLOCK is 64 kB")
    assert summary.level is Level.NOTE
    assert "gets OTHER, nice 0" in summary.text
    assert [problem.text for problem in problems[:2]] == ["the limit RTPRIO is 0", "the limit MEMLOCK is 64 kB"]
    assert "the worker would run at nice 0, not -11" in problems[2].text and "limits.conf" in problems[2].text
    assert all(problem.level is Level.NOTE for problem in problems)
