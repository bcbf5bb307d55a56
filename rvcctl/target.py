"""Which daemon is meant: a host and a port, or the name of one that runs on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from rvcd import protocol
from rvcd.errors import DaemonUnreachableError
from rvcd.instance import shown_name
from rvcd.running import find_daemon, running_daemons


@dataclass(frozen=True)
class Target:
    """name "": the daemon at host and port. Otherwise these two are not looked at: the daemon tells them, at each start anew."""

    host: str = protocol.DEFAULT_HOST
    port: int = protocol.DEFAULT_PORT
    name: str = ""

    def address(self) -> tuple[str, int]:
        """Return (host, port) as they are now. Raises DaemonUnreachableError where no daemon of that name listens."""
        if not self.name:
            return self.host, self.port
        found = find_daemon(self.name)
        if found is None:
            raise DaemonUnreachableError(f"no {shown_name(self.name)} runs here; start it with '{self.command}'{self.others()}")
        if not found.port:
            raise DaemonUnreachableError(
                f"{shown_name(self.name)} (process {found.pid}) has just been started: it does not listen yet"
            )
        return found.host, found.port

    @property
    def command(self) -> str:
        """What starts it."""
        return f"rvcd run --name {self.name}" if self.name else "rvcd run"

    def others(self) -> str:
        """Return a hint at the daemons with a name that run here, "" where there are none."""
        names = [daemon.name for daemon in running_daemons() if daemon.name and daemon.name != self.name]
        return f" (running here: {', '.join(names)}; choose one with --name)" if names else ""

    def __str__(self) -> str:
        return shown_name(self.name) if self.name else f"{self.host}:{self.port}"
