"""The PortAudio library behind sounddevice: started when it is needed, ended at once after, replaced when it is beyond help.

Two facts of PortAudio 19.6 shape this file. When a JACK server has died, PortAudio either waits ten minutes for it or
aborts the process by an assertion, whichever of its calls is made next; and it joins the JACK server when it starts, even
to use ALSA. So it is only running while a stream is open or being opened; a copy whose server died is never called again;
and since a second copy of the library has its own state, the next start loads one. Nothing is ended when the process exits.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import shutil
import sys
import threading
from typing import Any

from rvcd.errors import AudioDeviceError

JACK_CLIENT_NAME = b"rvcd"
PULSE_LATENCY_MS = "40"
SOUNDDEVICE_FIRST = (0, 5, 0)
SOUNDDEVICE_BELOW = (0, 6, 0)
"""The native callback and the replacing go through private names of sounddevice, which these versions share."""


class PortAudioLibrary:
    """The one PortAudio of this process. Hold `lock` around its calls, which are not safe against each other.

    generation: how often it has been replaced; streams of an earlier generation must not be touched.
    jack_client_name: what it is called under JACK, where it joins a server.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.generation = 0
        self.jack_client_name = JACK_CLIENT_NAME
        self._abandoned = False
        self._users = 0

    def load(self) -> Any:
        """Return the sounddevice module. Its first import starts PortAudio.

        Raises AudioDeviceError when one of the two is missing, of an unknown version, or does not start.
        """
        if "sounddevice" not in sys.modules:
            # PulseAudio lets its clients buffer two seconds unless told otherwise, and ALSA's plugin does not tell it.
            os.environ.setdefault("PULSE_LATENCY_MSEC", PULSE_LATENCY_MS)
            _name_jack_client("libportaudio.so.2", self.jack_client_name)
        try:
            import sounddevice
        except ImportError as error:
            raise AudioDeviceError("sounddevice is not installed: run `pip install sounddevice`") from error
        except OSError as error:
            raise AudioDeviceError("PortAudio is not installed: run `sudo apt install libportaudio2`") from error
        except Exception as error:
            raise AudioDeviceError(f"PortAudio does not start ({error}): restart the sound server") from error
        check_version(sounddevice.__version__)
        atexit.unregister(sounddevice._exit_handler)
        return sounddevice

    def start(self) -> Any:
        """Start PortAudio, which then lists the devices of this moment, or count one more user of it.

        Returns the sounddevice module. Raises AudioDeviceError.
        """
        sounddevice = self.load()
        if self._abandoned:
            path = _private_copy()
            sounddevice._lib = sounddevice._ffi.dlopen(path)
            _name_jack_client(path, self.jack_client_name)
            self._abandoned = False
        if sounddevice._initialized == 0:
            try:
                sounddevice._initialize()
            except sounddevice.PortAudioError as error:
                raise AudioDeviceError(f"PortAudio does not start ({error}): restart the sound server") from error
        self._users += 1
        return sounddevice

    def end(self) -> None:
        """Undo one start; the last one ends PortAudio."""
        sounddevice = self.load()
        self._users -= 1
        if self._users == 0:
            with contextlib.suppress(sounddevice.PortAudioError):
                while sounddevice._initialized > 0:
                    sounddevice._terminate()

    def abandon(self) -> None:
        """Never call the present copy again: the next start loads another. Does not block, whoever holds the lock."""
        self.generation += 1
        self._users = 0
        self._abandoned = True
        self.lock = threading.RLock()
        # Not load(): an import may hang, too.
        if "sounddevice" in sys.modules:
            sys.modules["sounddevice"].__dict__["_initialized"] = 0


def check_version(version: str) -> None:
    """Refuse a sounddevice whose private names may differ. Raises AudioDeviceError."""
    numbers = tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")[:3])
    if not SOUNDDEVICE_FIRST <= numbers < SOUNDDEVICE_BELOW:
        first, below = (".".join(map(str, bound)) for bound in (SOUNDDEVICE_FIRST, SOUNDDEVICE_BELOW))
        raise AudioDeviceError(f"sounddevice {version} is not supported: run `pip install 'sounddevice>={first},<{below}'`")


def _name_jack_client(path: str, name: bytes) -> None:
    """Have the PortAudio at path call its JACK client so. It keeps the pointer, and reads it when it starts.

    A PortAudio built without JACK has no such function, and nothing is lost.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(path)
        library.PaJack_SetClientName.argtypes = [ctypes.c_char_p]
        library.PaJack_SetClientName(name)


def _private_copy() -> str:
    """Return a path under which the dynamic loader has not yet seen PortAudio: the library's bytes in a memory file.

    The descriptor stays open, because the loader knows a library by its path and the path names the descriptor.
    """
    with open("/proc/self/maps", encoding="utf-8") as maps:
        paths = {line.split(maxsplit=5)[5].strip() for line in maps if "libportaudio" in line}
    mapped = next((path for path in sorted(paths) if os.path.isfile(path)), "")  # not an earlier copy in memory
    if not mapped:
        raise AudioDeviceError("PortAudio hangs and its library file is not known: restart rvcd")
    descriptor = os.memfd_create("libportaudio", os.MFD_CLOEXEC)
    with open(mapped, "rb") as original, open(descriptor, "wb", closefd=False) as copy:
        shutil.copyfileobj(original, copy)
    return f"/proc/self/fd/{descriptor}"


LIBRARY = PortAudioLibrary()
