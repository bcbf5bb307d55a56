"""The main states of the screen as pictures, played by the demo's daemon in frozen time."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import pytest

from tests.rvcctl.snapshot import FOLDER, UPDATE, check
from tests.rvcctl.stage import DemoStage, demo_stage, play, stage

Act = Callable[[DemoStage], Awaitable[None]]
SMALL, LARGE = (80, 24), (160, 45)
SINGS_S = 5.0
"""How long the demo has sung when the picture is taken: in the middle of a long note."""


def pressing(*keys: str) -> Act:
    """Return an act that presses keys and lets a second pass."""

    async def act(on: DemoStage) -> None:
        await on.press(*keys)
        await on.play(1.0)

    return act


async def daemon_dies(on: DemoStage) -> None:
    """Twelve seconds of silence."""
    on.clock.now_s += 12.0
    await on.update()


async def voice_is_gone(on: DemoStage) -> None:
    """A daemon whose last voice was refused."""
    on.client.daemon.voice = ""
    on.client.daemon.loading = "Dusk"
    await on.play(2.0)


async def everything_is_lost(on: DemoStage) -> None:
    """Clips, and late blocks of which the last was a moment ago."""
    on.client.daemon.in_clips, on.client.daemon.late_blocks = 3, 2
    await on.play(0.2)
    on.client.daemon.late_blocks = 4
    await on.play(3.0)


async def monitored(on: DemoStage) -> None:
    """Somebody who hears their own voice on headphones, softer."""
    on.client.daemon.monitor_state = "open"
    await on.play(0.5)
    await on.press("o", "end", "left", "left", "left")
    await on.play(3.0)


async def monitor_is_gone(on: DemoStage) -> None:
    """Headphones that were pulled out."""
    on.client.daemon.monitor_state = "waiting"
    on.client.daemon.monitor_problem = "audio.monitor.device: output device 'usb' was not found: there is [4] 'HDMI' (ALSA)"
    await on.play(3.0)


async def multi_speaker_records(on: DemoStage) -> None:
    """A voice with four speakers, in a recording."""
    await on.press("3", "r")
    await on.play(2.0)
    await on.press("k")


SCENES: dict[str, tuple[tuple[int, int], Act]] = {
    "live": (SMALL, pressing("]", "]")),
    "live_large": (LARGE, pressing("]", "]")),
    "live_wide_and_low": ((160, 24), pressing("v")),
    "live_narrow_and_high": ((80, 40), pressing("l")),
    "muted": (SMALL, pressing("m")),
    "bypass": (SMALL, pressing("b")),
    "panic": (SMALL, pressing("space")),
    "standby": (SMALL, pressing("t")),
    "no_daemon": (SMALL, daemon_dies),
    "no_daemon_large": (LARGE, daemon_dies),
    "no_voice": (SMALL, voice_is_gone),
    "losses_and_clips": (SMALL, everything_is_lost),
    "voices": (SMALL, pressing("v", "down", "enter")),
    "broken_voice": (SMALL, pressing("5")),
    "presets": (SMALL, pressing("s", "down", "enter")),
    "engine": (SMALL, pressing("e")),
    "log": (SMALL, pressing("5", "l")),
    "speakers": (SMALL, multi_speaker_records),
    "monitor": (SMALL, monitored),
    "monitor_large": (LARGE, monitored),
    "monitor_high": ((80, 40), monitor_is_gone),
    "latency_box": (SMALL, pressing("d")),
    "help": (SMALL, pressing("question_mark")),
    "help_large": (LARGE, pressing("question_mark")),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_screen_looks_as_it_did(name: str) -> None:
    size, act = SCENES[name]

    async def scene() -> None:
        async with demo_stage(size) as on:
            await on.play(SINGS_S)
            await act(on)
            await on.pilot.pause()
            check(on.app, name)

    play(scene)


OVERLOADED: dict[str, str | int | float] = {
    "state": "overloaded", "out_peak_dbfs": -120.0, "load": 1.31, "load_p95": 1.38, "late_blocks": 212, "late_samples": 1_017_600,
    "late_events": 3, "expired_samples": 1_008_000, "skipped_blocks": 106, "gap_samples": 480, "overflow_samples": 96,
    "bad_input_samples": 7, "bad_output_samples": 2, "input_xruns": 1, "output_xruns": 4, "worker_restarts": 1,
    "scheduling": "OTHER", "callback_gap_max_ms": 23.4,
    "fault": "a block takes 131 ms and may take 100 ms: choose the latency 'safe', or a voice without an index",
}  # fmt: skip


@pytest.mark.parametrize("name", ["overloaded", "overloaded_engine", "overloaded_large"])
def test_an_overloaded_daemon_looks_as_it_did(name: str) -> None:
    async def scene() -> None:
        async with stage(LARGE if name.endswith("large") else SMALL) as on:
            if name.endswith("engine"):
                await on.pilot.press("e")
            on.client.deliver_stats(**{**OVERLOADED, "late_blocks": 211})
            await on.update()
            on.clock.now_s += 0.5
            on.client.deliver_stats(**OVERLOADED)
            await on.update()
            check(on.app, name)

    play(scene)


@pytest.mark.skipif(bool(os.environ.get(UPDATE)), reason="the pictures are being written")
def test_every_stored_picture_has_a_scene() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {*SCENES, "overloaded", "overloaded_engine", "overloaded_large"}
