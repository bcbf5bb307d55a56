"""`rvcd check`: what would happen if the daemon started with these settings, found out without starting it and without torch."""

from __future__ import annotations

from rvcd.cli.checks.device import device_findings
from rvcd.cli.checks.finding import Finding
from rvcd.cli.checks.models import model_findings, pitch_method_finding
from rvcd.cli.checks.osc import osc_finding
from rvcd.cli.checks.probes import Probes
from rvcd.cli.checks.realtime import realtime_findings
from rvcd.cli.checks.saved import preset_findings, state_finding
from rvcd.cli.checks.settings import config_finding, latency_finding, talk_findings
from rvcd.cli.checks.voice import voice_finding
from rvcd.config.settings import Settings


def run_checks(settings: Settings, probes: Probes) -> list[Finding]:
    """Return every finding, in the order in which the daemon would meet them. Raises nothing a user can cause."""
    state, saved = state_finding()
    return [
        config_finding(settings),
        *device_findings(settings, probes.list_devices),
        latency_finding(settings, saved.latency_preset),
        *model_findings(settings),
        pitch_method_finding(settings),
        voice_finding(settings, probes, saved.voice),
        osc_finding(settings),
        state,
        *preset_findings(),
        *talk_findings(settings),
        *realtime_findings(settings),
    ]
