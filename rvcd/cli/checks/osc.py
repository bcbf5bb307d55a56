"""The socket on which the daemon would listen."""

from __future__ import annotations

import errno
import socket

from rvcd.cli.checks.finding import Finding, Level
from rvcd.config.settings import ANY_PORT, Settings
from rvcd.running import same_name, second_start


def osc_finding(settings: Settings) -> Finding:
    """Open the socket and close it again."""
    osc, instance = settings.osc, settings.instance
    if instance and (running := same_name(instance)) is not None:
        return Finding(Level.FAIL, "osc", second_start(instance, running.pid))
    host = "127.0.0.1" if osc.host == "localhost" else osc.host
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, osc.port))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = {
            errno.EADDRINUSE: "is rvcd running already, or set osc.port",
            errno.EADDRNOTAVAIL: "set osc.host to an address of this machine",
            errno.EACCES: "set osc.port to 1024 or more",
        }.get(error.errno or 0, "set osc.host or osc.port")
        return Finding(Level.FAIL, "osc", f"UDP {osc.host}:{osc.port} cannot be opened ({reason}); {hint}")
    clients = f"; networks: {', '.join(osc.allow)}" if osc.allow else ""
    where = f"{osc.host}:{osc.port}" if osc.port != ANY_PORT else f"{osc.host}, a free port: `rvcctl --name {instance}` finds it"
    return Finding(Level.OK, "osc", f"would listen on UDP {where}{clients}")
