"""What follows from the settings alone: where they come from, the latency, what a talk mode means."""

from __future__ import annotations

from rvcd.cli.checks.finding import Finding, Level
from rvcd.config.folders import config_files
from rvcd.config.settings import DEFAULT_CONFIG, Settings
from rvcd.config.sizes import geometry_of
from rvcd.errors import RvcdError
from rvcd.geometry import FRAME_MS, SYNTHESIS_TAIL_MS


def config_finding(settings: Settings) -> Finding:
    """Name the file the settings come from."""
    text = f"{settings.source} is valid"
    if settings.source == DEFAULT_CONFIG:
        text += " (the built-in default: none is yours yet"
        text += f"; for '{settings.instance}' it would be {config_files(settings.instance)[0]})" if settings.instance else ")"
    return Finding(Level.OK, "config", text)


def latency_finding(settings: Settings, resumed: str) -> Finding:
    """Add up the latency. resumed: the preset chosen live in the last run, "" for the configured one."""
    try:
        geometry = geometry_of(settings, resumed)
    except RvcdError as error:
        return Finding(Level.FAIL, "latency", str(error))
    period_ms = geometry.ms(settings.audio.period_samples)
    return Finding(
        Level.OK,
        "latency",
        f"{geometry.ms(geometry.latency_samples):.0f} ms + the device's buffers (a period is {period_ms:.1f} ms):"
        f" block {geometry.ms(geometry.block_samples):.0f} + lookahead {geometry.lookahead_frames * FRAME_MS:.0f}"
        f" + synthesis {SYNTHESIS_TAIL_MS:.0f} + deadline {geometry.ms(geometry.deadline_samples):.0f}",
    )


def talk_findings(settings: Settings) -> list[Finding]:
    """Say what goes out before anyone has sent /rvc/talk; nothing in the mode that needs no talking."""
    meanings = {
        "push-to-talk": "silent until a client sends /rvc/talk 1",
        "push-to-convert": "your OWN voice goes out until a client sends /rvc/talk 1",
    }
    meaning = meanings.get(settings.talk.mode)
    return [Finding(Level.NOTE, "talk", f"talk.mode = '{settings.talk.mode}': {meaning}")] if meaning else []
