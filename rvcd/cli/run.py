"""`rvcd run`: the daemon, in this process."""

from __future__ import annotations

from pathlib import Path

from rvcd.cli.common import ConfigOption, NameOption, quiet_stderr


def run(config: ConfigOption = None, name: NameOption = None) -> None:
    """Start the daemon: convert the microphone to the speakers until it is stopped.

    With --name it is one of several: configuration, port, state, presets, recordings, ports and microphone are its own.
    """
    import asyncio

    asyncio.run(_run(config, name or ""))


async def _run(config: Path | None, instance: str) -> None:
    from rvcd.daemon.worker import start_worker

    worker = await start_worker()
    try:
        from rvcd.config.settings import load_config

        settings = load_config(config, instance)
        from rvcd.config import logs
        from rvcd.daemon.main import run as run_daemon

        with quiet_stderr():
            logs.setup(settings.log.level)
            await run_daemon(settings, worker)
    finally:
        await worker.discard()
