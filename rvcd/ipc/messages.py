"""What the control process and its children say to each other: one struct a message, told apart by its name.

Audio, parameters and telemetry do not travel here: they lie in the shared segment. How messages travel: rvcd.ipc.channel.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from rvcd.geometry import StreamGeometry

# ---- what is wanted of the stream


class VoiceFiles(Struct, frozen=True):
    """A voice to load. index "": none. gain_db: this voice's own, on top of gain_out.

    encoder: the path of the content encoder that makes its units, "" for the setup's. problem: why it cannot be loaded, where
    that is known already. identity: changes when one of the voice's files does (voice_identity), so that a replaced file is
    another voice. f0_median_hz: its register, 0: not known.
    """

    name: str
    path: str
    index: str = ""
    gain_db: float = 0.0
    identity: str = ""
    encoder: str = ""
    problem: str = ""
    f0_median_hz: float = 0.0


class Wanted(Struct, frozen=True):
    """All that the user wants of the stream, besides the live parameters. voice None: none. latency: a preset's name.

    revision: counts what was wanted since the control process started. Two that differ in nothing else are equally good.
    """

    voice: VoiceFiles | None
    speaker: int
    f0_method: str
    latency: str
    revision: int = 0


FIELDS: tuple[str, ...] = ("voice", "speaker", "f0_method", "latency")
"""The parts of Wanted that can fail one by one."""


# ---- to and from the worker


class ModelSetup(Struct, frozen=True):
    """Which models are loaded, and how they are computed with; fixed for a worker's life.

    encoder: of voices that name none; "": the test weights. device, precision, cuda_graphs, keep_warm, context: as engine's.
    threads 0: as many as the voice needs. keep_loaded: voices that stay in memory, with their encoders. test_weights_cache: where
    the test weights are written. ways_file: where it is kept how convolutions are computed best on this machine; "": directly.
    a4_hz: engine.autotune_a4_hz.
    """

    encoder: str
    rmvpe: str = ""
    fill_unvoiced: bool = False
    device: str = "cpu"
    precision: str = "fp32"
    cuda_graphs: str = "off"
    keep_warm: bool = False
    context: str = "remembered"
    threads: int = 0
    seed: int = 0
    a4_hz: float = 440.0
    test_weights_cache: str = ""
    ways_file: str = ""
    keep_loaded: int = 3


class WorkerSetup(Struct, frozen=True):
    """What a worker is told first. geometries: the stream's sizes for each latency preset.

    generation: number of this worker, published with its telemetry, so that nobody takes a dead worker's figures for its own.
    choose: latency presets, the quickest first, of which the worker chooses one by measurement before anything is heard; ():
    what is wanted holds.
    """

    models: ModelSetup
    geometries: dict[str, StreamGeometry]
    generation: int
    choose: tuple[str, ...] = ()


class Start(Struct, frozen=True, tag=True):
    """The first message to a worker; the descriptor of the shared segment comes before it."""

    setup: WorkerSetup
    wanted: Wanted


class Want(Struct, frozen=True, tag=True):
    """From now on this is wanted. The newest revision counts; a worker may pass over those before it."""

    wanted: Wanted


class Cut(Struct, frozen=True, tag=True):
    """The output is silent now: go over to the latency preset that was reported as prepared."""

    latency: str


class Flush(Struct, frozen=True, tag=True):
    """Forget all audio that has been heard."""


class Stop(Struct, frozen=True, tag=True):
    """End."""


class Choice(Struct, frozen=True):
    """A latency preset that was chosen by measurement. shares: of each that was measured, what a block usually takes of the time
    that it may take. sure: nothing else kept the processor busy meanwhile.
    """

    latency: str
    shares: dict[str, float]
    sure: bool


class Report(Struct, frozen=True, tag=True):
    """How far a worker is; sent whenever it changes, and every second as a sign of life.

    revision: of the newest Wanted that was dealt with to its end. applied: what runs now; its voice is None while none does, its
    f0_method "" while none could be loaded. errors: for each field of FIELDS that could not be applied, why.
    prepared: the latency preset that waits for a Cut, "". speakers: names of the live voice's, "" for a nameless one.
    choice: the latency preset that was chosen because WorkerSetup.choose said so; it is what runs, whatever was wanted.
    """

    revision: int
    applied: Wanted
    errors: dict[str, str]
    prepared: str
    speakers: tuple[str, ...]
    choice: Choice | None = None


class LogLine(Struct, frozen=True, tag=True):
    """A line for the daemon's log. level: as logging names it, in lower case."""

    level: str
    text: str


ToWorker: TypeAlias = Start | Want | Cut | Flush | Stop
FromWorker: TypeAlias = Report | LogLine


# ---- to and from the recorder


class Record(Struct, frozen=True, tag=True):
    """What to record, and where; the first message, after the segment's descriptor.

    name: of the file, without ".flac"; "-2" and so on follow it when there is such a file. start: the device position of
    the first sample. min_free_bytes: must stay free on the folder's disk. max_samples: the longest recording.
    """

    folder: str
    name: str
    voice: str
    start: int
    min_free_bytes: int
    max_samples: int


class StopAt(Struct, frozen=True, tag=True):
    """End the recording at a device position. Where the channel ends without this, it ends where the device is."""

    position: int


class Began(Struct, frozen=True, tag=True):
    """The file is there."""

    path: str


class Refused(Struct, frozen=True, tag=True):
    """The recording cannot begin; error says why in one sentence."""

    error: str


class Ended(Struct, frozen=True, tag=True):
    """How a recording ended. path "": no file was kept. samples: of the file, those among them that were lost included.

    lost_samples: silence in the file, because the recorder could not keep up. reason: a sentence; "" when told to stop.
    """

    path: str
    samples: int
    lost_samples: int
    reason: str


# ---- to and from the monitor


class OpenMonitor(Struct, frozen=True, tag=True):
    """Which device to play on; the first message, after the segment's descriptor. Stop ends it.

    device: as audio.monitor.device; host_api: as audio.host_api. period_samples: of the main device at its own rate.
    chunk_s: the most that the main device hands over at once.
    """

    device: str
    host_api: str
    period_samples: int
    chunk_s: float


class MonitorOpened(Struct, frozen=True, tag=True):
    """It plays. description: one line for people. latency_ms: from the main device's callback to the ear."""

    description: str
    latency_ms: float


class MonitorMissing(Struct, frozen=True, tag=True):
    """It cannot play, says why in one sentence, and tries again; sent at each try, as a sign of life."""

    reason: str


ToRecorder: TypeAlias = Record | StopAt
FromRecorder: TypeAlias = Began | Refused | LogLine | Ended
ToMonitor: TypeAlias = OpenMonitor | Stop
FromMonitor: TypeAlias = MonitorOpened | MonitorMissing | LogLine
