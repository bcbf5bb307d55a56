from __future__ import annotations

import pytest

from rvcd.errors import RvcdError
from rvcd.osc.codec import decode, encode
from rvcd.osc.limits import Sources, TokenBucket
from rvcd.osc.publisher import Publisher
from rvcd.osc.session import LogLine
from rvcd.osc.subscriptions import Subscriptions
from rvcd.osc.verbs import Limit
from rvcd.protocol import DEFAULT_GROUPS, MAX_SUBSCRIPTIONS
from tests.osc.fake_session import FakeSession


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Wire:
    """Takes the place of the socket; tells what was sent where."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.session = FakeSession()
        self.table = Subscriptions(clock)
        self.reports: list[Exception] = []
        self.sent: list[tuple[str, tuple[object, ...], object]] = []
        self.publisher = Publisher(self.session, self.table, self.send, clock, self.reports.append)

    def send(self, datagram: bytes, to: object) -> None:
        (message,) = decode(datagram, max_arguments=128)
        self.sent.append((message.address, message.args, to))

    def advance(self, seconds: float) -> list[tuple[str, tuple[object, ...], object]]:
        """Let time pass in steps of 5 ms; return what was sent meanwhile."""
        self.sent.clear()
        for _ in range(round(seconds / 0.005)):
            self.clock.now_s += 0.005
            self.publisher.push_due()
        return list(self.sent)


ME, OTHER = ("127.0.0.1", 5001), ("127.0.0.1", 5002)


def test_a_lease_that_is_not_renewed_ends_after_ten_seconds() -> None:
    wire = Wire(Clock())
    wire.table.subscribe(ME, hz=1, groups=("stats",))
    assert len(wire.advance(9.9)) in (9, 10)
    assert wire.advance(0.2) == []
    assert wire.table.targets() == []
    assert wire.publisher.push_due() is None


def test_a_lease_that_is_renewed_goes_on_without_repeating_the_state() -> None:
    clock = Clock()
    table = Subscriptions(clock)
    assert table.subscribe(ME)[1] is True
    for _ in range(5):
        clock.now_s += 9.0
        target, is_new = table.subscribe(ME, hz=20)
        assert not is_new
        assert target.hz == 20
    assert table.subscribe(ME, groups=("stats",))[1] is True, "other groups need their own state"
    assert len(table.targets()) == 1


def test_the_ninth_subscription_is_refused_until_one_ends() -> None:
    clock = Clock()
    table = Subscriptions(clock)
    for port in range(MAX_SUBSCRIPTIONS):
        table.subscribe(("127.0.0.1", 6000 + port))
    with pytest.raises(RvcdError, match="all 8 subscriptions"):
        table.subscribe(ME)
    assert table.unsubscribe(("127.0.0.1", 6003)) == 1
    table.subscribe(ME)
    clock.now_s += 10.0
    table.subscribe(OTHER)
    assert len(table.targets()) == 1


def test_rates_are_clamped_and_groups_default_to_all_but_the_log() -> None:
    table = Subscriptions(Clock())
    assert table.subscribe(ME, hz=1000)[0].hz == 30
    assert table.subscribe(ME, hz=-5)[0].hz == 1
    assert table.subscribe(ME, groups=())[0].groups == DEFAULT_GROUPS
    assert table.subscribe(ME, groups=("stats", "params"))[0].groups == ("params", "stats")


def test_who_opened_a_subscription_at_another_port_can_end_it() -> None:
    table = Subscriptions(Clock())
    table.subscribe(ME, port=7000)
    assert table.targets()[0].address == ("127.0.0.1", 7000)
    assert table.unsubscribe(OTHER) == 0
    assert table.unsubscribe(ME) == 1


def test_a_static_target_never_expires() -> None:
    wire = Wire(Clock())
    wire.table.add_static(ME, 1, ("stats",))
    wire.clock.now_s += 1000.0
    assert wire.publisher.push_due() is not None
    assert len(wire.advance(5.0)) == 5
    assert wire.table.unsubscribe(ME) == 0


def test_a_static_target_is_told_the_whole_state_at_the_start_whoever_asked_before() -> None:
    wire = Wire(Clock())
    wire.publisher.publish_changes()
    wire.table.add_static(ME, 10, ("params",))
    wire.publisher.publish_changes()
    assert wire.sent == []
    told = [(address, args) for address, args, _ in wire.advance(0.05)]
    state = [decode(encode(f"/rvc{address}", *args))[0] for address, args in wire.publisher.state_messages()]
    assert told == [(message.address, message.args) for message in state]
    assert wire.advance(1.0) == []
    assert wire.reports == []


def test_a_session_that_is_not_ready_is_asked_again_and_the_log_goes_out_meanwhile() -> None:
    wire = Wire(Clock())
    wire.session.is_ready = False
    wire.session.lines.append(LogLine(1, "info", "the worker starts"))
    wire.table.add_static(ME, 10, ("params", "stats", "log"))
    sent = wire.advance(0.5)
    assert [(address, args) for address, args, _ in sent] == [("/rvc/log", (1, "info", "the worker starts"))]
    assert wire.reports and all(isinstance(report, KeyError) for report in wire.reports)
    wire.session.is_ready = True
    told = [address for address, _, _ in wire.advance(0.25)]
    assert told.count("/rvc/pitch") == told.count("/rvc/status") == 1
    assert 2 <= told.count("/rvc/stats") <= 3


def test_pushes_keep_their_rate_and_do_not_catch_up_after_a_stall() -> None:
    wire = Wire(Clock())
    wire.table.subscribe(ME, hz=10, groups=("stats",))
    assert len(wire.advance(1.0)) in (9, 10), "the first covers a whole period"
    wire.clock.now_s += 5.0
    assert len(wire.advance(1.0)) in (10, 11)


def test_a_slow_meter_shows_the_peak_that_a_fast_one_has_already_read() -> None:
    wire = Wire(Clock())
    wire.table.subscribe(ME, hz=2, groups=("meters",))
    wire.table.subscribe(OTHER, hz=20, groups=("meters",))
    wire.advance(0.6)
    wire.session.telemetry = type(wire.session.telemetry)(in_peak_dbfs=-3.0)
    wire.advance(0.06)
    wire.session.telemetry = type(wire.session.telemetry)(in_peak_dbfs=-40.0)
    sent = wire.advance(0.6)
    peaks = [args[0] for address, args, to in sent if to == ME and address == "/rvc/meter/in/peak"]
    assert peaks[0] == -3.0
    assert -3.0 not in [args[0] for address, args, to in sent if to == OTHER and address == "/rvc/meter/in/peak"][2:]


def test_a_held_echo_is_dropped_when_its_client_has_had_a_newer_reply() -> None:
    wire = Wire(Clock())
    wire.table.subscribe(ME, hz=1, groups=("params",))
    wire.advance(0.1)
    for value in (1.0, 2.0):
        wire.session.set_param("pitch", value)
        wire.publisher.publish_changes()
    wire.session.set_param("pitch", 3.0)
    wire.publisher.reply(ME, "/pitch", 3.0)
    wire.publisher.publish_changes()
    assert [args[0] for address, args, _ in wire.advance(2.5) if address == "/rvc/pitch"] == []


def test_a_bucket_refills_with_time_and_never_beyond_its_size() -> None:
    bucket = TokenBucket(10.0, 3.0, 3.0, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(0.1)
    assert not bucket.take(0.1)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(999.0), "a clock that goes back gives nothing"


def test_a_source_over_its_limit_does_not_touch_another() -> None:
    sources = Sources(Clock(), max_sources=2)
    while sources.take(ME, Limit.HEAVY):
        pass
    assert sources.take(OTHER, Limit.HEAVY)
    assert sources.take(ME, Limit.NORMAL)
    assert sources.take(ME, Limit.FREE)
    assert not sources.take(ME, Limit.HEAVY)
    sources.take(("127.0.0.1", 1), Limit.NORMAL)
    assert len(sources) == 2
