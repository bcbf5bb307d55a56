"""Against another implementation: liblo's command-line tools, when they are installed."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.control.fake_rig import FakeRig
from tests.control.udp import serving

pytestmark = pytest.mark.skipif(not (shutil.which("oscsend") and shutil.which("oscdump")), reason="liblo-tools is not installed")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def oscsend(server: tuple[str, int], address: str, *words: str) -> None:
    process = await asyncio.create_subprocess_exec("oscsend", server[0], str(server[1]), address, *words)
    assert await process.wait() == 0


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(250):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen")


def test_oscsend_controls_the_daemon_with_every_type_it_has() -> None:
    async def run() -> None:
        rig = FakeRig()
        async with serving(rig) as server:
            at = server.address
            await oscsend(at, "/rvc/pitch", "f", "3.5")
            await until(lambda: rig.get_param("pitch") == 3.5)
            await oscsend(at, "/rvc/gain/out", "d", "-6")
            await until(lambda: rig.get_param("gain_out") == -6.0)
            await oscsend(at, "/rvc/index_rate", "h", "1")
            await until(lambda: rig.get_param("index_rate") == 1.0)
            await oscsend(at, "/rvc/bypass", "T")
            await until(lambda: rig.switches["bypass"])
            await oscsend(at, "/rvc/bypass/toggle")
            await until(lambda: not rig.switches["bypass"])
            await oscsend(at, "/rvc/panic", "I")
            await until(lambda: rig.is_panicked)
            await oscsend(at, "/rvc/voice", "s", "Bo Li")
            await until(lambda: rig.live.name == "Bo Li")
            assert server.counters.malformed == 0

    asyncio.run(run())


def test_oscdump_reads_the_state_the_echoes_and_the_telemetry_of_a_floats_only_client() -> None:
    async def run() -> None:
        port = free_port()
        dump = await asyncio.create_subprocess_exec("oscdump", "-L", str(port), stdout=asyncio.subprocess.PIPE)
        lines: list[str] = []

        async def read() -> None:
            assert dump.stdout is not None
            while line := await dump.stdout.readline():
                lines.append(line.decode().split(" ", 1)[-1].strip())

        reader = asyncio.ensure_future(read())
        try:
            await asyncio.sleep(0.3)
            async with serving() as server:
                await oscsend(server.address, "/rvc/subscribe", "ff", str(port), "20")
                await until(lambda: any(line.startswith("/rvc/stats ") for line in lines))
                await oscsend(server.address, "/rvc/pitch", "f", "-3")
                await oscsend(server.address, "/rvc/mute/on", "f", "1")
                await until(lambda: "/rvc/pitch f -3.000000" in lines and "/rvc/mute i 1" in lines)
                assert "/rvc/protect f 0.330000" in lines
                assert '/rvc/f0/note s "-"' in lines
                assert "/rvc/xruns i 0" in lines
                assert next(line for line in lines if line.startswith("/rvc/stats")).startswith("/rvc/stats ssisiii")
        finally:
            dump.kill()
            await dump.wait()
            reader.cancel()

    asyncio.run(run())
