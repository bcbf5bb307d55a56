"""The monitor by OSC: its gain, its mute and its source, and how loud it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rvcd.osc.codec import encode
from rvcd.osc.server import OscServer
from rvcd.osc.telemetry import PeakHold, meter_messages
from rvcd.protocol import SILENCE_DBFS, MonitorState, Stats
from tests.osc.fake_session import FakeSession
from tests.osc.udp import Client, converse


def test_its_gain_is_a_number_as_the_others_are() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/monitor", -6.0)).args == (-6.0,)
        assert (await client.ask("/rvc/monitor", 99.0)).args == (12.0,)
        assert (await client.ask("/rvc/monitor/norm", 0.0, reply="/rvc/monitor")).args == (-60.0,)
        assert (await client.ask("/rvc/monitor/reset", reply="/rvc/monitor")).args == (0.0,)
        assert session.get_param("monitor") == 0.0

    converse(talk)


def test_it_is_muted_alone_and_never_throttled() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/monitor/mute", True)).args == (1,)
        assert (await client.ask("/rvc/monitor/mute/toggle", reply="/rvc/monitor/mute")).args == (0,)
        assert not session.switches["mute"]
        for _ in range(3000):
            server.datagram_received(encode("/rvc/ping"), ("127.0.0.1", 40000))
        server.datagram_received(encode("/rvc/monitor/mute/on"), ("127.0.0.1", 40000))
        assert session.switches["monitor_mute"]

    converse(talk)


def test_its_source_is_chosen_by_name_or_index_and_another_is_refused_with_the_choices() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/monitor/source")).args == ("converted",)
        assert (await client.ask("/rvc/monitor/source", "Microphone")).args == ("microphone",)
        assert (await client.ask("/rvc/monitor/source", 0.0)).args == ("converted",)
        for wrong in ("loudspeaker", 2, -1):
            reason = (await client.ask("/rvc/monitor/source", wrong, reply="/rvc/fail")).args[1]
            assert "converted, microphone" in str(reason)
        assert session.monitor_source() == "converted"

    converse(talk)


def test_a_subscriber_is_told_its_state_and_each_change_and_the_status_is_what_it_was() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        await client.ask("/rvc/subscribe", 0, 20, "params", reply="/rvc/done")
        assert (await client.expect("/rvc/monitor/mute")).args == (0,)
        assert (await client.expect("/rvc/monitor/source")).args == ("converted",)
        session.set_monitor_source("microphone")
        server.changed()
        await client.wait(lambda: ("microphone",) in [message.args for message in client.find("/rvc/monitor/source")])
        assert len((await client.ask("/rvc/status")).args) == 7

    converse(talk)


@pytest.mark.parametrize(("state", "told"), [(MonitorState.OFF, False), (MonitorState.WAITING, True), (MonitorState.OPEN, True)])
def test_its_level_is_told_where_there_is_a_monitor(state: MonitorState, told: bool) -> None:
    stats = Stats(monitor_state=state.value, monitor_peak_dbfs=-7.0)
    assert (("/meter/monitor/peak", (-7.0,)) in meter_messages(stats)) is told


def test_a_slow_meter_of_it_misses_no_peak() -> None:
    held, stats = PeakHold(), Stats(monitor_state="open")
    for peak in (-30.0, -3.0, -20.0):
        held.add(replace(stats, monitor_peak_dbfs=peak))
    assert held.take(stats).monitor_peak_dbfs == -3.0
    assert held.take(stats).monitor_peak_dbfs == SILENCE_DBFS
