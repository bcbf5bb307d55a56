"""The stream's sizes that the settings mean."""

from __future__ import annotations

from rvcd.config.settings import LATENCY_PRESETS, NO_DENOISER, Settings
from rvcd.geometry import StreamGeometry


def geometry_of(settings: Settings, preset: str = "") -> StreamGeometry:
    """Return the stream's sizes. Raises ParamError for a combination the engine cannot do.

    preset: chosen live instead of the configured one; the configuration's overrides belong to its own preset only.
    """
    live = preset and preset != settings.latency.named
    budget = LATENCY_PRESETS[preset] if live else settings.latency.budget()
    return StreamGeometry.from_ms(
        rate_hz=settings.audio.rate_hz,
        block_ms=budget.block_ms,
        lookahead_ms=budget.lookahead_ms,
        deadline_ms=budget.deadline_ms,
        context_ms=budget.context_ms,
        denoiser=settings.engine.denoiser != NO_DENOISER,
    )
