"""Everything rvcctl shows, read at one moment."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rvcd.audio.device_supervisor import DeviceSupervisor
from rvcd.daemon.device_buffers import NO_BUFFERS, DeviceBuffers, device_buffers
from rvcd.daemon.gpu import GpuMonitor
from rvcd.daemon.monitor import Monitor
from rvcd.daemon.pitch_mode import PitchMode
from rvcd.daemon.recent_maximum import RecentMaximum
from rvcd.daemon.recording import Recording
from rvcd.daemon.stream import Stream
from rvcd.daemon.switches import Switches
from rvcd.ipc.segment import AudioSegment
from rvcd.osc.session import Session
from rvcd.protocol import Stats, to_dbfs


@dataclass
class Telemetry:
    """Where the figures come from. device_supervisor: once the device is being opened.

    latency_offset_ms: what was measured beyond what the audio system says; the published latency contains it.
    """

    segment: AudioSegment
    stream: Stream
    switches: Switches
    recording: Recording
    monitor: Monitor
    pitch: PitchMode
    latency_offset_ms: float = 0.0
    gpu: GpuMonitor = field(default_factory=GpuMonitor)
    device_supervisor: DeviceSupervisor | None = None
    started_s: float = field(default_factory=time.monotonic)
    _gap_max_ms: RecentMaximum = field(default_factory=RecentMaximum)

    def tick(self) -> None:
        """Look at what has to be looked at often."""
        self._gap_max_ms.add(self.segment.take_gap_max_ns() / 1e6)

    @property
    def latency_ms(self) -> float:
        """The published latency: the stream's own plus what the device says of its buffers."""
        buffers, geometry = self._device_buffers(), self.stream.geometry
        return geometry.ms(geometry.latency_samples) + buffers.in_ms + buffers.out_ms

    def _device_buffers(self) -> DeviceBuffers:
        device = self.device_supervisor.device if self.device_supervisor else None
        if device is None:
            return NO_BUFFERS
        return device_buffers(
            device.input_latency_ms, device.output_latency_ms, self.latency_offset_ms if device.realtime else 0.0
        )

    @property
    def scheduling(self) -> str:
        """The scheduling class of the device's thread as the kernel tells it, "" while it is not known."""
        found = self.device_supervisor.scheduling if self.device_supervisor is not None else None
        return str(found) if found is not None else ""

    @property
    def fault(self) -> str:
        """Why what is wanted does not run, "" while it does or is on its way."""
        return "; ".join(self.stream.owner.errors.values())

    def read(self, session: Session) -> Stats:
        """Return the figures; the peaks are since the previous call. session: for what OSC knows by itself."""
        segment, stream, switches = self.segment, self.stream, self.switches
        counters, worker, geometry = segment.counters(), stream.worker.stats, stream.geometry
        in_peak, out_peak = segment.take_peaks()
        device = self.device_supervisor.device if self.device_supervisor else None
        drift = getattr(device, "drift", None)  # of devices with two clocks
        room = geometry.block_samples + geometry.deadline_samples
        gpu, buffers = self.gpu.latest, self._device_buffers()
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
            latency_total_ms=self.latency_ms,
            latency_device_in_ms=buffers.in_ms,
            latency_block_ms=geometry.ms(geometry.block_samples),
            latency_lookahead_ms=geometry.ms(geometry.lookahead_samples),
            latency_deadline_ms=geometry.ms(geometry.deadline_samples),
            latency_device_out_ms=buffers.out_ms,
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
            callback_gap_max_ms=self._gap_max_ms.value(),
            encode_ms=worker.encode_ms,
            pitch_ms=worker.pitch_ms,
            synthesis_ms=worker.synthesis_ms,
            rate_hz=geometry.rate_hz,
            device=device.description if device else "",
            uptime_s=time.monotonic() - self.started_s,
            record=int(self.recording.active),
            record_s=self.recording.seconds,
            talk=int(switches.talk.held),
            talk_mode=switches.talk_mode,
            speaker=session.speaker(),
            speakers=max(1, len(stream.owner.speakers)),
            latency_preset=session.latency_preset(),
            preset=session.preset(),
            loading=wanted.name if wanted != live and not self.fault else "",
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
            scheduling=self.scheduling,
            fault=self.fault,
            advice=session.advice(),
            clock_ratio=drift.ratio if drift else 0.0,
            clock_drift_ppm=drift.drift_ppm if drift else 0.0,
            clock_fill_ms=drift.fill_ms if drift else 0.0,
            clock_starved=drift.starved if drift else 0,
            clock_recentred=drift.recentred if drift else 0,
            stale_samples=counters.stale_samples,
            absent_samples=counters.absent_samples,
            latency_offset_ms=buffers.offset_ms,
            hint=session.hint(),
            monitor_state=self.monitor.state.value,
            monitor_source=self.monitor.source,
            monitor_mute=int(self.monitor.mute),
            monitor_peak_dbfs=to_dbfs(segment.take_monitor_peak()),
            monitor_underruns=counters.monitor_underruns,
            monitor_problem=self.monitor.problem,
            latency_denoise_ms=geometry.ms(geometry.denoise_samples),
            pitch_mode=self.pitch.mode,
            pitch_auto=self.pitch.semitones,
            register_hz=self.pitch.register_hz,
        )
