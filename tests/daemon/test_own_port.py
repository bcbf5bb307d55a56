"""The port of a daemon whose configuration sets none: free, told, and the same again at the next start."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from rvcd.config.settings import ANY_PORT
from rvcd.daemon.own_port import FILE_NAME, remember_port, remembered_port
from rvcd.errors import RvcdError
from rvcd.osc.server import OscServer, OscSettings
from tests.osc.fake_session import FakeSession


def test_what_was_kept_is_known_at_the_next_start(tmp_path: Path) -> None:
    assert remembered_port(tmp_path / "new") == ANY_PORT
    remember_port(tmp_path / "new", 45_678)
    assert remembered_port(tmp_path / "new") == 45_678


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2, "port": 45678}', '{"format": 1, "port": 80}',
                                  '{"format": 1, "port": true}', '{"format": 1, "port": 70000}', '{"format": 1}'])  # fmt: skip
def test_a_file_that_cannot_be_read_is_no_reason_not_to_start(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    assert remembered_port(tmp_path) == ANY_PORT


async def port_of(settings: OscSettings) -> int:
    server = OscServer(settings, FakeSession())
    await server.start()
    await server.close()
    return server.address[1]


def test_where_the_last_port_is_another_program_s_by_now_a_free_one_is_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert asyncio.run(port_of(OscSettings(port=port, or_another=True))) not in (0, port)
        with pytest.raises(RvcdError, match="another program"):  # a port that was configured is that one or none
            asyncio.run(port_of(OscSettings(port=port)))
    assert asyncio.run(port_of(OscSettings(port=port, or_another=True))) == port
