"""What a batch and its worker processes say to each other, and what of it is kept on the disk: one struct a message."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from rvcd.ipc.messages import ModelSetup, VoiceFiles


class RenderSetup(Struct, frozen=True):
    """What decides how every file of a batch sounds, and the same for one file.

    params: values of every live parameter, in the table's order. rate_hz 0: the voice's own, or the next that the format holds.
    channels: "1": all mixed into one voice; "keep": each channel is a voice of its own; "2" and so on: the same, for files that
    have so many. loudness_lufs None: as it comes. index_wanted: a voice whose index cannot serve is refused. threads 0: one for
    each core. register_hz: that each file's own median pitch is brought to, 0: only `pitch` transposes. notes: what to tell.
    """

    models: ModelSetup
    voice: VoiceFiles
    speaker: int
    f0_method: str
    params: tuple[float, ...]
    rate_hz: int = 0
    channels: str = "1"
    loudness_lufs: float | None = None
    index_wanted: bool = False
    threads: int = 0
    register_hz: float = 0.0
    notes: tuple[str, ...] = ()


class Levels(Struct, frozen=True):
    """Of one signal. peak_dbfs None: silence. loudness_lufs None: silent, or shorter than 400 ms.

    clipped_samples: in runs of three or more at full scale, over all channels.
    """

    peak_dbfs: float | None
    loudness_lufs: float | None
    clipped_samples: int


class Rendered(Struct, frozen=True):
    """One file that was written. compute_s: of converting alone; seconds: of everything, reading and writing too."""

    voice: str
    rate_hz: int
    channels: int
    duration_s: float
    compute_s: float
    seconds: float
    source: Levels
    made: Levels
    notes: tuple[str, ...] = ()


# ---- to a worker process


class Load(Struct, frozen=True, tag=True):
    """The first message: what to load."""

    setup: RenderSetup


class Job(Struct, frozen=True, tag=True):
    """A file to convert. replace: the target is ours, or may be replaced."""

    number: int
    source: str
    target: str
    replace: bool


class Leave(Struct, frozen=True, tag=True):
    """There is nothing more to do."""


# ---- from a worker process


class Ready(Struct, frozen=True, tag=True):
    """Everything is loaded, and a block was converted. private_bytes: memory that another worker would need again."""

    device: str
    private_bytes: int
    notes: tuple[str, ...]


class Refused(Struct, frozen=True, tag=True):
    """The models or the voice cannot be used; why, in one sentence."""

    error: str


class Progress(Struct, frozen=True, tag=True):
    """done: 0..1 of the file."""

    number: int
    done: float


class Finished(Struct, frozen=True, tag=True):
    """The target is there, whole. The hashes are of the contents of source and target."""

    number: int
    rendered: Rendered
    source_hash: str
    target_hash: str


class Failed(Struct, frozen=True, tag=True):
    """The file could not be converted; the target is untouched. disk_full: neither could the next one."""

    number: int
    error: str
    disk_full: bool = False


ToRenderWorker: TypeAlias = Load | Job | Leave
FromRenderWorker: TypeAlias = Ready | Refused | Progress | Finished | Failed
