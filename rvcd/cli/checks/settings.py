"""What follows from the settings alone: where they come from, the latency, what a talk mode means."""

from __future__ import annotations

from rvcd.cli.checks.finding import Finding, Level
from rvcd.config.folders import config_files
from rvcd.config.settings import DEFAULT_CONFIG, NO_DENOISER, Settings
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
    denoiser = f" + denoiser {geometry.ms(geometry.denoise_samples):.0f}" if geometry.denoise_samples else ""
    return Finding(
        Level.OK,
        "latency",
        f"{geometry.ms(geometry.latency_samples):.0f} ms + the device's buffers (a period is {period_ms:.1f} ms):"
        f" block {geometry.ms(geometry.block_samples):.0f}{denoiser} + lookahead {geometry.lookahead_frames * FRAME_MS:.0f}"
        f" + synthesis {SYNTHESIS_TAIL_MS:.0f} + deadline {geometry.ms(geometry.deadline_samples):.0f}",
    )


def denoiser_findings(settings: Settings, resumed: str) -> list[Finding]:
    """Say what the denoiser adds; nothing where it is neither loaded nor wanted. resumed: as latency_finding has it."""
    amount = settings.initial_params()["denoise"]
    if settings.engine.denoiser == NO_DENOISER:
        text = f'params.denoise = {amount:g} does nothing without a denoiser; set engine.denoiser = "gtcrn", which adds 36 ms'
        return [Finding(Level.NOTE, "denoiser", text)] if amount > 0 else []
    try:
        geometry = geometry_of(settings, resumed)
    except RvcdError:
        return []  # latency_finding says why
    added_ms = geometry.ms(geometry.denoise_samples)
    text = (
        f"{settings.engine.denoiser} adds {added_ms:.0f} ms to the latency, also while `denoise` is 0; at the first start it is"
    )
    return [Finding(Level.OK, "denoiser", f"{text} {amount:g}")]


def talk_findings(settings: Settings) -> list[Finding]:
    """Say what goes out before anyone has sent /rvc/talk; nothing in the mode that needs no talking."""
    meanings = {
        "push-to-talk": "silent until a client sends /rvc/talk 1",
        "push-to-convert": "your OWN voice goes out until a client sends /rvc/talk 1",
    }
    meaning = meanings.get(settings.talk.mode)
    return [Finding(Level.NOTE, "talk", f"talk.mode = '{settings.talk.mode}': {meaning}")] if meaning else []
