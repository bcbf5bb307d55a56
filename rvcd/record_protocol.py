"""What the control process and the recorder say to each other: one JSON object a message, as worker_protocol sends them.

Stdlib only. The audio does not travel here: it lies in the shared segment.
"""

from __future__ import annotations

from dataclasses import dataclass

CHANNELS = ("dry", "wet")
"""Of every recording: the input, as late as the output is, and the output. So both line up to the sample."""


@dataclass(frozen=True)
class RecordRequest:
    """What to record, and where.

    name: of the file, without ".flac"; "-2" and so on follow it when there is such a file. start: the device position of
    the first sample. min_free_bytes: must stay free on the folder's disk. max_samples: the longest recording.
    """

    folder: str
    name: str
    voice: str
    start: int
    min_free_bytes: int
    max_samples: int


@dataclass(frozen=True)
class Ended:
    """How a recording ended. path "": no file was kept. samples: of the file, those among them that were lost included.

    lost_samples: silence in the file, because the recorder could not keep up. reason: a sentence; "" when told to stop.
    """

    path: str
    samples: int
    lost_samples: int
    reason: str


# Commands to the recorder: {"command": "record", "request": {...}}, {"command": "stop", "position": n} (the device position
# to end at). When the channel ends, the recording ends where the device is.
# Events from it: {"event": "began", "path": ...} or {"event": "refused", "error": sentence},
# {"event": "log", "level": ..., "text": ...}, {"event": "ended", "ended": {...}}.
