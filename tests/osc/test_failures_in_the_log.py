"""What failed is in the log too: a pedal shows no /fail."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rvcd.osc.router import FAILURE_LINES_BURST
from rvcd.osc.server import OscServer
from tests.osc.fake_session import FakeSession
from tests.osc.udp import Client, converse

BURST = int(FAILURE_LINES_BURST)


def failures(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "a command failed" in record.getMessage()]


@pytest.mark.parametrize(("address", "argument", "reason"), [
    ("/rvc/voice", "broken.v2", "cut short"),
    ("/rvc/voice", "Nobody", "no voice is called"),
    ("/rvc/f0/method", "pm", ".[pm]"),
    ("/rvc/preset/delete", "Nope", "Nope"),
    ("/rvc/record", 1, "12 MB are free"),
])  # fmt: skip
def test_a_command_that_failed_is_one_warning_with_address_sender_and_reason(
    caplog: pytest.LogCaptureFixture, address: str, argument: object, reason: str
) -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.disk_is_full = True
        await client.ask(address, argument, reply="/rvc/fail")
        (line,) = failures(caplog)
        assert line.levelno == logging.WARNING and line.exc_info is None
        assert reason in line.getMessage()
        assert line.fields == {"address": address, "sender": f"127.0.0.1:{client.port}"}  # type: ignore[attr-defined]

    converse(talk)


def test_a_request_that_a_newer_one_replaced_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.gate = asyncio.Event()
        client.send("/rvc/voice", "Anna")
        client.send("/rvc/voice", "Bo Li")
        await client.expect("/rvc/fail")
        session.gate.set()
        await client.expect("/rvc/done")
        assert failures(caplog) == []

    converse(talk)


def test_a_number_that_makes_no_sense_is_told_to_its_sender_only(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        await client.ask("/rvc/pitch", "three", reply="/rvc/fail")
        assert failures(caplog) == []

    converse(talk)


def test_a_client_that_errs_without_end_does_not_fill_the_log_and_what_was_left_out_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = [1000.0]

    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        def fail_once() -> None:
            now_s[0] += 0.001
            server.router.sources = type(server.router.sources)(lambda: now_s[0])  # another source each time, as it were
            client.send("/rvc/voice", "Nobody")

        for count in range(1, 3 * BURST + 1):
            fail_once()
            await client.expect("/rvc/fail", count)
        assert len(failures(caplog)) == BURST
        now_s[0] += 60.0
        fail_once()
        await client.expect("/rvc/fail", 3 * BURST + 1)
        assert failures(caplog)[-1].fields["others_not_logged"] == 2 * BURST  # type: ignore[attr-defined]

    converse(talk, clock=lambda: now_s[0])
