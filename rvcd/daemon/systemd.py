"""systemd's notify protocol, sd_notify(3): a datagram of KEY=value lines. Never raises; does nothing without systemd."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Tells systemd how the daemon is. path: NOTIFY_SOCKET's value ('/run/...' or '@abstract'); "" is a no-op."""

    def __init__(self, path: str = "", watchdog_interval_s: float | None = None) -> None:
        self._path = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_interval_s = watchdog_interval_s
        """Send watchdog() at least this often (half of what systemd allows), or None when no watchdog is set."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; values that make no sense count as absent."""
        path = environ.get("NOTIFY_SOCKET", "")
        return cls(path if path.startswith(("/", "@")) else "", _watchdog_interval_s(environ))

    def send(self, **values: object) -> bool:
        """Send KEY=value lines in one datagram; return whether systemd's socket took them. Never blocks."""
        if not self._path:
            return False
        text = "\n".join(f"{key}={' '.join(str(value).split())}" for key, value in values.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto(text.encode("utf-8", "replace"), self._path)
        except (OSError, ValueError):  # gone, full, or a path with a NUL: the service matters more than its report
            return False
        return True

    def ready(self, status: str) -> bool:
        """Start-up, or a reload, has finished."""
        return self.send(READY=1, STATUS=status)

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self.send(STATUS=text)

    def watchdog(self) -> bool:
        """The daemon is alive: call it only when the control loop ticked and the audio moved."""
        return self.send(WATCHDOG=1)

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for `seconds` more from now on for starting, reloading or stopping."""
        return self.send(EXTEND_TIMEOUT_USEC=max(1, round(seconds * 1e6)))

    def reloading(self) -> bool:
        """A reload has begun; ready() ends it."""
        return self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self, status: str = "stopping") -> bool:
        """The daemon has begun to stop."""
        return self.send(STOPPING=1, STATUS=status)


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """Half of WATCHDOG_USEC in seconds, as sd_watchdog_enabled(3) advises, if it is meant for this process."""
    try:
        limit_us = int(environ.get("WATCHDOG_USEC", "0"))
        pid = int(environ.get("WATCHDOG_PID", "") or os.getpid())
    except ValueError:
        return None
    return limit_us / 2e6 if limit_us > 0 and pid == os.getpid() else None
