"""Everything rvcctl shows, read from the session at one moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rvcd.protocol import Stats, to_dbfs

if TYPE_CHECKING:
    from rvcd.daemon.session import LiveSession


def telemetry(session: LiveSession) -> Stats:
    """Return the figures; the two peaks are since the previous call."""
    segment, stream, switches = session.segment, session.stream, session.switches
    counters, worker, geometry = segment.counters(), stream.worker.stats, stream.geometry
    in_peak, out_peak = segment.take_peaks()
    device = session.device_supervisor.device if session.device_supervisor else None
    room = geometry.block_samples + geometry.deadline_samples
    gpu = session.gpu.latest
    live, wanted = session.voice(), session.wanted_voice()
    return Stats(
        state=session.state().value,
        voice=live.name,
        voice_slot=live.slot,
        f0_method=session.f0_method(),
        bypass=int(switches.bypass),
        mute=int(switches.mute),
        panic=int(switches.panic),
        in_peak_dbfs=to_dbfs(in_peak),
        out_peak_dbfs=to_dbfs(out_peak),
        in_clips=counters.in_clips,
        out_clips=counters.out_clips,
        f0_hz=worker.f0_hz if worker.voiced else 0.0,
        latency_total_ms=session.latency_ms(),
        latency_device_in_ms=device.input_latency_ms if device else 0.0,
        latency_block_ms=geometry.ms(geometry.block_samples),
        latency_lookahead_ms=geometry.ms(geometry.lookahead_samples),
        latency_deadline_ms=geometry.ms(geometry.deadline_samples),
        latency_device_out_ms=device.output_latency_ms if device else 0.0,
        ring_fill=min(1.0, segment.output_fill_samples() / room),
        load=worker.load,
        load_p95=worker.load_p95,
        blocks=stream.worker.total("blocks"),
        late_blocks=stream.worker.total("late_blocks"),
        expired_samples=stream.worker.total("expired_samples"),
        failed_blocks=stream.worker.total("failed_blocks"),
        input_xruns=counters.input_xruns,
        output_xruns=counters.output_xruns,
        worker_restarts=stream.worker.restarts,
        callback_gap_max_ms=session.callback_gap_max_ms(),
        encode_ms=worker.encode_ms,
        pitch_ms=worker.pitch_ms,
        synthesis_ms=worker.synthesis_ms + worker.retrieval_ms,
        rate_hz=geometry.rate_hz,
        device=device.description if device else "",
        uptime_s=time.monotonic() - session.started_s,
        record=int(session.recording.active),
        record_s=session.recording.seconds,
        talk=int(switches.talk.held),
        talk_mode=switches.talk_mode,
        speaker=session.speaker(),
        speakers=max(1, len(stream.owner.speakers)),
        latency_preset=session.latency_preset(),
        preset=session.preset(),
        loading=wanted.name if wanted != live and not session.fault() else "",
        gpu_util=gpu.util if gpu else -1.0,
        gpu_memory_mb=gpu.memory_mb if gpu else 0.0,
        gpu_memory_total_mb=gpu.memory_total_mb if gpu else 0.0,
        late_samples=counters.late_samples,
        late_events=counters.late_events,
        gap_samples=counters.gap_samples,
        overflow_samples=counters.overflow_samples,
        bad_input_samples=counters.bad_input_samples,
        bad_output_samples=counters.bad_output_samples,
        skipped_blocks=stream.worker.total("skipped_blocks"),
        retrieval_ms=worker.retrieval_ms,
        scheduling=session.scheduling(),
        fault=session.fault(),
    )
