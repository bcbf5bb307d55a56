"""Errors a user can cause. Each message is one sentence that names the thing, the value, the bound and the fix.

Stdlib only: rvcctl shows these too.
"""

from __future__ import annotations


class RvcdError(Exception):
    """Anything a user can cause. Printed as one line, never as a traceback."""


class ConfigError(RvcdError):
    """The configuration file is wrong. Holds every problem found, not only the first.

    problems: one sentence each, starting with the key's dotted path.
    """

    def __init__(self, path: str, problems: list[str]) -> None:
        self.path = path
        self.problems = problems
        super().__init__(f"{path}: " + "; ".join(problems))


class ModelFileError(RvcdError):
    """A model, voice or index file cannot be used. The message starts with the file's path."""


class TransferError(RvcdError):
    """A download cannot be done. The message starts with the address, or with the file that cannot be written."""


class MissingExtraError(RvcdError):
    """An optional package is needed; the message says how to install the extra (how_to_install)."""


def how_to_install(extra: str) -> str:
    """Return the advice for a missing extra. rvcd is on no package index, so it is installed from its source."""
    return f"run in the folder of rvcd's source: .venv/bin/pip install -e '.[{extra}]'"


class OutputError(RvcdError):
    """The standard output takes nothing more: it is closed, or the disk behind it is full."""


class AudioDeviceError(RvcdError):
    """An audio device cannot be opened or has died."""


class AudioFileError(RvcdError):
    """An audio file cannot be read or written. The message starts with the file's path."""


class DiskFullError(AudioFileError):
    """The disk that an audio file is written to is full: the next file will not fit either."""


class ParamError(RvcdError):
    """A parameter's name or value is wrong."""


class ProtocolError(RvcdError):
    """A datagram is not an OSC packet this daemon accepts."""


class DaemonUnreachableError(RvcdError):
    """rvcctl got no answer from a daemon."""


class PresetError(RvcdError):
    """A preset's name or number is wrong, or there are too many."""


class VoiceNotFoundError(RvcdError):
    """No voice of the registry has that name or slot."""
