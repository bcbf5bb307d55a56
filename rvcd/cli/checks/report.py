"""`rvcd check`: what would happen if the daemon started with these settings, found out without starting it."""

from __future__ import annotations

from rvcd.cli.checks.device import device_findings
from rvcd.cli.checks.finding import Finding, Level
from rvcd.cli.checks.models import model_findings, pitch_method_finding
from rvcd.cli.checks.osc import osc_finding
from rvcd.cli.checks.probes import Probes
from rvcd.cli.checks.realtime import realtime_findings
from rvcd.cli.checks.saved import preset_findings, state_finding
from rvcd.cli.checks.settings import config_finding, denoiser_findings, latency_finding, talk_findings
from rvcd.cli.checks.trial import TrialRequest
from rvcd.cli.checks.voice import voice_finding
from rvcd.config.settings import Settings


def run_checks(settings: Settings, probes: Probes) -> list[Finding]:
    """Return every finding, in the order in which the daemon would meet them. Raises nothing a user can cause."""
    state, saved = state_finding(settings.instance)
    osc = osc_finding(settings)
    voice_side = [
        *model_findings(settings, probes.hashes),
        pitch_method_finding(settings, saved.f0_method),
        voice_finding(settings, probes, saved.voice),
    ]
    if probes.try_out is not None and not any(finding.level is Level.FAIL for finding in voice_side):
        # What the headers told already is not told twice.
        request = TrialRequest(str(settings.source), saved.voice, saved.f0_method, saved.latency_preset)
        known = {finding.text for finding in voice_side}
        voice_side += [finding for finding in probes.try_out(request) if finding.text not in known]
    return [
        config_finding(settings),
        *device_findings(settings, probes, daemon_runs=osc.level is Level.FAIL),
        latency_finding(settings, saved.latency_preset),
        *denoiser_findings(settings, saved.latency_preset),
        *voice_side,
        osc,
        state,
        *preset_findings(settings.instance),
        *talk_findings(settings),
        *realtime_findings(settings),
    ]
