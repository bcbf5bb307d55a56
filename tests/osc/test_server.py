"""The verbs: what each message does and what is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from rvcd.osc.codec import encode
from rvcd.osc.numbers import TICK_S
from rvcd.osc.server import OscServer
from rvcd.osc.verbs import PUSHED, ROUTES, VERBS, Action, Limit, Wildcard, find_verb, reference_markdown
from rvcd.params import PARAMS
from rvcd.protocol import PROTOCOL_VERSION, SWITCH_ADDRESSES, State
from tests.counting import run_within
from tests.osc.fake_session import FakeSession
from tests.osc.packets import STARS, bundle
from tests.osc.udp import Client, client_of, converse

# The table


def test_every_parameter_has_its_four_addresses() -> None:
    for param in PARAMS:
        assert [ROUTES[param.address + end].subject for end in ("", "/norm", "/step", "/reset")] == [param.name] * 4


def test_the_protocol_and_the_parameters_name_the_same_addresses() -> None:
    assert {verb.address for verb in VERBS if verb.action is Action.SWITCH} == set(SWITCH_ADDRESSES)


def test_addresses_are_unique_and_every_action_has_one() -> None:
    assert len(ROUTES) == len(VERBS)
    assert {verb.action for verb in VERBS} == set(Action)


def test_only_numbers_may_be_set_by_a_pattern_and_no_trigger_may_be_fired_by_one() -> None:
    assert {verb.action for verb in VERBS if verb.wildcard is Wildcard.SET} == {Action.NUMBER, Action.NORM}
    assert all(verb.wildcard is Wildcard.NEVER for verb in VERBS if verb.trigger)


def test_panic_and_mute_are_never_limited() -> None:
    assert all(verb.limit is Limit.FREE for verb in VERBS if verb.address.startswith(("/panic", "/mute")))


def test_numbered_addresses_take_only_a_short_number() -> None:
    found = find_verb("/voice/slot/12")
    assert found is not None
    assert found[1] == 12
    for path in ("/voice/slot/N", "/voice/slot/", "/voice/slot/-1", "/voice/slot/99999", "/voice/slot/\u0663", "/pitch/1"):
        assert find_verb(path) is None


def test_every_example_of_the_table_is_answered_and_none_fails() -> None:
    casts: dict[str, Callable[[str], object]] = {"i": int, "f": float, "s": str}

    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        for verb in VERBS:
            server.router.sources = type(server.router.sources)(time.monotonic)  # the limits are not what is tested here
            address, *rest = verb.example.split()
            args = [casts[tag](text) for tag, text in zip(rest[0] if rest else "", rest[1:], strict=True)]
            seen = len(client.inbox)
            client.send(address, *args)
            await client.wait(lambda seen=seen: len(client.inbox) > seen)
        await client.settle()
        assert not client.find("/rvc/fail")

    converse(talk)
    assert reference_markdown().count("\n") == len(VERBS) + len(PUSHED) + 2


# Numbers


@pytest.mark.parametrize(("datagram", "applied"), [
    (encode("/rvc/pitch", 3), 3.0),
    (encode("/rvc/pitch", 3.5), 3.5),
    (b"/rvc/pitch\0\0,T\0\0", 1.0),
    (b"/rvc/pitch\0\0,h\0\0" + bytes(7) + b"\x05", 5.0),
    (encode("/rvc/pitch", 99), 24.0),
    (encode("/rvc/pitch", -99.0), -24.0),
    (encode("/rvc/pitch", 2, "extra"), 2.0),
])  # fmt: skip
def test_a_number_is_clamped_applied_and_answered_as_a_float_at_the_same_address(datagram: bytes, applied: float) -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        client.send_raw(datagram)
        reply = await client.expect("/rvc/pitch")
        assert reply.args == (applied,)
        assert isinstance(reply.args[0], float)
        assert session.get_param("pitch") == applied

    converse(talk)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "three"])
def test_what_is_not_a_finite_number_fails_and_changes_nothing(wrong: object) -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        for address in ("/rvc/pitch", "/rvc/pitch/norm", "/rvc/pitch/step", "/rvc/bypass", "/rvc/mute/on", "/rvc/voice/slot"):
            reply = await client.ask(address, wrong, reply="/rvc/fail")
            assert reply.args[0] == address
        assert session == FakeSession()

    converse(talk)


def test_no_argument_asks_for_the_value() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.set_param("gain_in", -6.0)
        session.switches["bypass"] = True
        session.live = session.registry[1]
        assert (await client.ask("/rvc/gain/in")).args == (-6.0,)
        assert (await client.ask("/rvc/bypass")).args == (1,)
        assert (await client.ask("/rvc/voice")).args == ("Bo Li",)
        assert (await client.ask("/rvc/voice/slot")).args == (2,)
        assert (await client.ask("/rvc/f0/method")).args == ("swift",)
        assert (await client.ask("/rvc/gate/norm")).args == (pytest.approx(1 / 3),)

    converse(talk)


def test_a_number_can_be_set_by_0_to_1_stepped_and_reset() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/pitch/norm", 0.75)).args == (0.75,)
        assert client.find("/rvc/pitch")[-1].args == (12.0,)
        assert (await client.ask("/rvc/pitch/step", -2, reply="/rvc/pitch")).args == (10.0,)
        assert (await client.ask("/rvc/pitch/step", 100.0, reply="/rvc/pitch")).args == (24.0,)
        client.send("/rvc/pitch/reset", 0.0)
        assert (await client.ask("/rvc/pitch")).args == (24.0,)
        assert (await client.ask("/rvc/pitch/reset", reply="/rvc/pitch")).args == (0.0,)

    converse(talk)


def test_a_fader_flood_is_thinned_out_but_its_last_value_is_applied() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        started_s = time.monotonic()
        for step in range(120):
            client.send("/rvc/pitch", step / 10)
            client.send("/rvc/gain/in", -step / 10)
            if step % 20 == 0:
                await asyncio.sleep(0.001)
        await client.wait(lambda: client.find("/rvc/pitch") and client.find("/rvc/pitch")[-1].args[0] == pytest.approx(11.9))
        await client.wait(lambda: client.find("/rvc/gain/in")[-1].args[0] == pytest.approx(-11.9))
        assert session.get_param("pitch") == pytest.approx(11.9)
        ticks = (time.monotonic() - started_s) / TICK_S
        assert len([name for name, _ in session.applied if name == "pitch"]) <= 3 + ticks

    converse(talk)


def test_a_query_right_after_a_burst_answers_with_the_last_value() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        client.send_raw(bundle(encode("/rvc/pitch", 1), encode("/rvc/pitch", 2), encode("/rvc/pitch", 7), encode("/rvc/pitch")))
        await client.wait(lambda: client.find("/rvc/pitch") and client.find("/rvc/pitch")[-1].args == (7.0,))
        assert [value for _, value in session.applied] == [1.0, 7.0]

    converse(talk)


# Switches, triggers, panic


@pytest.mark.parametrize("name", ["bypass", "mute"])
def test_a_switch_takes_ints_floats_and_booleans_and_answers_with_an_int(name: str) -> None:
    base = f"/rvc/{name}"
    padded = base.encode() + b"\0" * (4 - len(base) % 4)

    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        for datagram, on in (
            (encode(base, 1), True),
            (encode(base, 0.4), False),
            (encode(base, 0.5), True),
            (padded + b",F\0\0", False),
            (padded + b",T\0\0", True),
            (encode(base + "/toggle"), False),
            (encode(base + "/toggle", 0.0), False),
            (encode(base + "/on", 1.0), True),
            (encode(base + "/off", 0), True),
            (encode(base + "/off"), False),
        ):
            client.send_raw(datagram)
            await client.settle()
            assert session.switches[name] is on, datagram
        assert {type(message.args[0]) for message in client.find(base)} == {int}
        assert len(client.find(base)) == 8, "the two releases are not answered"

    converse(talk)


def test_panic_latches_until_it_is_cleared_and_ignores_the_release_of_its_button() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        client.send("/rvc/panic", 0.0)
        await client.settle()
        assert not session.is_panicked
        assert (await client.ask("/rvc/panic", 1.0)).args == (1,)
        assert (await client.ask("/rvc/status")).args == ("panic", "", 0, 0, 0, 0, 1)
        client.send("/rvc/panic/clear", 0)
        await client.settle()
        assert session.is_panicked
        assert (await client.ask("/rvc/panic/clear", reply="/rvc/panic")).args == (0,)
        client.send_raw(b"/rvc/panic\0\0,I\0\0")
        assert (await client.expect("/rvc/panic", 3)).args == (1,)

    converse(talk)


# Voices and F0 methods


def test_a_voice_is_loaded_by_name_by_slot_and_by_an_address_without_arguments() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        for address, args, live in (
            ("/rvc/voice", ("Bo Li",), ("Bo Li", 2)),
            ("/rvc/voice", (1,), ("Anna", 1)),
            ("/rvc/voice", ("bo li",), ("Bo Li", 2)),
            ("/rvc/voice", ("1",), ("Anna", 1)),
            ("/rvc/voice/slot", ("2",), ("Bo Li", 2)),
            ("/rvc/voice", ("ANNA",), ("Anna", 1)),
            ("/rvc/voice", (2.0,), ("Bo Li", 2)),
            ("/rvc/voice/slot/1", (), ("Anna", 1)),
            ("/rvc/voice/next", (1.0,), ("Bo Li", 2)),
            ("/rvc/voice/prev", (), ("Anna", 1)),
            ("/rvc/voice/slot", (2.0,), ("Bo Li", 2)),
        ):
            client.inbox.clear()
            done = await client.ask(address, *args, reply="/rvc/done")
            assert done.args == (address, *live)
            assert (await client.expect("/rvc/voice")).args == live[:1]
            assert (await client.expect("/rvc/voice/slot")).args == live[1:]

    converse(talk)


@pytest.mark.parametrize(("address", "args", "reason"), [
    ("/rvc/voice", ("Nobody",), "no voice is called 'Nobody'"),
    ("/rvc/voice", ("ann",), "no voice is called 'ann'; did you mean 'Anna'?"),
    ("/rvc/voice", ("9",), "no voice is in slot 9"),
    ("/rvc/voice", ("../../etc/passwd",), "letters, digits"),
    ("/rvc/voice", ("Anna\n",), "letters, digits"),
    ("/rvc/voice", ("x" * 65,), "letters, digits"),
    ("/rvc/voice", (9,), "no voice is in slot 9"),
    ("/rvc/voice/slot/9", (), "no voice is in slot 9"),
    ("/rvc/voice", ("broken.v2",), "cut short"),
    ("/rvc/f0/method", ("magic",), "known: swift, rmvpe"),
    ("/rvc/f0/method", (99,), "outside 0..6"),
    ("/rvc/f0/method", ("pm",), ".[pm]"),
    ("/rvc/subscribe", (80,), "outside 1024..65535"),
    ("/rvc/subscribe", ("everything",), "known: params, meters, stats"),
    ("/rvc/nonsense", (), "unknown address"),
    ("/rvc/pitch/step", (), "needs a number"),
    ("/rvc/q*", (), "matches no value"),
])  # fmt: skip
def test_a_command_that_cannot_be_done_fails_with_its_address_and_the_reason(
    address: str, args: tuple[Any, ...], reason: str
) -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        reply = await client.ask(address, *args, reply="/rvc/fail")
        assert reply.args[0] == address
        assert reason in str(reply.args[1])
        assert not client.find("/rvc/done")

    converse(talk)


def test_an_f0_method_is_chosen_by_name_or_index() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/f0/method", "yin", reply="/rvc/done")).args == ("/rvc/f0/method", "yin")
        assert (await client.expect("/rvc/f0/method")).args == ("yin",)
        assert (await client.ask("/rvc/f0/method", 1.0)).args == ("rmvpe",)

    converse(talk)


def test_voices_are_listed_one_a_message_and_then_counted() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/voice/list", reply="/rvc/voice/list/end")).args == (3,)
        assert [message.args for message in client.find("/rvc/voice/list")] == [(1, "Anna"), (2, "Bo Li"), (3, "broken.v2")]

    converse(talk)


def test_panic_and_mute_act_while_a_voice_loads() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.gate = asyncio.Event()
        client.send("/rvc/voice", "Anna")
        await client.settle()
        assert (await client.ask("/rvc/mute", 1)).args == (1,)
        assert (await client.ask("/rvc/panic")).args == (1,)
        assert session.loads == ["Anna"]
        assert session.live.slot == 0
        session.gate.set()
        assert (await client.expect("/rvc/done")).args == ("/rvc/voice", "Anna", 1)

    converse(talk)


def test_the_newest_voice_counts_and_a_pitch_method_does_not_wait_for_it() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.gate = asyncio.Event()
        async with client_of(server) as second:
            client.send("/rvc/voice", "Anna")
            await client.settle()
            second.send("/rvc/voice/slot/2")
            assert (await client.expect("/rvc/fail")).args == ("/rvc/voice", "superseded by a newer request")
            assert (await second.ask("/rvc/f0/method", "yin", reply="/rvc/done")).args == ("/rvc/f0/method", "yin")
            client.send("/rvc/voice/slot/1")
            assert (await second.expect("/rvc/fail")).args == ("/rvc/voice/slot/2", "superseded by a newer request")
            session.gate.set()
            assert (await client.expect("/rvc/done")).args == ("/rvc/voice/slot/1", "Anna", 1)
            assert session.loads == ["Anna", "Bo Li", "Anna"]
            await second.settle()
            assert len(second.find("/rvc/fail")) == 1 and len(second.find("/rvc/done")) == 1

    converse(talk)


def test_the_voice_that_is_live_is_asked_for_again_while_another_loads() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        await client.ask("/rvc/voice", "Anna", reply="/rvc/done")
        session.gate = asyncio.Event()
        client.send("/rvc/voice", "Bo Li")
        await client.settle()
        client.send("/rvc/voice", "Anna")
        assert (await client.expect("/rvc/fail")).args == ("/rvc/voice", "superseded by a newer request")
        assert len(client.find("/rvc/done")) == 1, "not answered before it is sure"
        session.gate.set()
        assert (await client.expect("/rvc/done", 2)).args == ("/rvc/voice", "Anna", 1)
        assert session.loads == ["Anna", "Bo Li", "Anna"]

    converse(talk)


def test_a_recording_begins_at_once_while_a_voice_loads_and_a_disk_hangs() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.gate = session.disk = asyncio.Event()
        client.send("/rvc/voice", "Anna")
        client.send("/rvc/preset/save", "Deep")
        await client.settle()
        assert (await client.ask("/rvc/record", 1)).args == (1,)
        assert (await client.ask("/rvc/voice/rescan", reply="/rvc/done")).args == ("/rvc/voice/rescan", 3)
        assert (await client.ask("/rvc/mute", 1)).args == (1,)
        assert (await client.ask("/rvc/panic")).args == (1,)
        assert (await client.ask("/rvc/panic/clear", reply="/rvc/panic")).args == (0,)
        assert session.live.slot == 0 and session.book.names == ()
        session.gate.set()
        await client.expect("/rvc/done", 3)

    converse(talk)


def test_presets_are_saved_in_the_order_in_which_they_were_asked_for_and_none_is_lost() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.disk = asyncio.Event()
        for name in ("One", "Two", "Three"):
            client.send("/rvc/preset/save", name)
        client.send("/rvc/preset/delete", "Two")
        await client.settle()
        session.disk.set()
        await client.expect("/rvc/done", 4)
        assert session.book.names == ("One", "Three")
        assert not client.find("/rvc/fail")

    converse(talk)


def test_two_quick_presses_of_next_go_two_voices_on() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.registry = tuple(voice for voice in FakeSession().registry if "broken" not in voice.name)
        session.gate = asyncio.Event()
        client.send_raw(bundle(encode("/rvc/voice/next"), encode("/rvc/voice/next")))
        await client.settle()
        session.gate.set()
        assert (await client.expect("/rvc/done")).args == ("/rvc/voice/next", "Bo Li", 2)
        assert session.loads == ["Anna", "Bo Li"]

    converse(talk)


def test_next_goes_past_a_voice_that_cannot_be_loaded() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        await client.ask("/rvc/voice", 2, reply="/rvc/done")
        assert (await client.ask("/rvc/voice/next", reply="/rvc/fail")).args[0] == "/rvc/voice/next"
        assert session.live.name == "Bo Li"
        assert (await client.ask("/rvc/voice/next", reply="/rvc/done")).args[1] == "Anna"
        await client.ask("/rvc/voice/prev", reply="/rvc/fail")
        client.inbox.clear()
        assert (await client.ask("/rvc/voice/prev", reply="/rvc/done")).args[1] == "Bo Li"

    converse(talk)


def test_a_load_that_never_ends_fails_and_the_next_one_works() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        session.gate = asyncio.Event()
        assert "no result after 0.1 s" in str((await client.ask("/rvc/voice", "Anna", reply="/rvc/fail")).args[1])
        session.gate = None
        assert (await client.ask("/rvc/voice", 2, reply="/rvc/done")).args[1] == "Bo Li"

    converse(talk, slow_timeout_s=0.1)


# Queries


def test_ping_version_and_status() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        assert (await client.ask("/rvc/ping", 7, 0.5, "x", reply="/rvc/pong")).args == (7, 0.5, "x")
        assert (await client.ask("/rvc/ping", reply="/rvc/pong")).args == ()
        assert (await client.ask("/rvc/version")).args == ("0.1.0", str(PROTOCOL_VERSION))
        assert (await client.ask("/rvc/status")).args == (State.NO_VOICE.value, "", 0, 0, 0, 0, 0)

    converse(talk)


# Patterns


def test_a_pattern_asks_for_values_and_sets_numbers_but_triggers_nothing() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        client.send("/rvc/*")
        await client.settle()
        asked = {message.address for message in client.inbox}
        assert {"/rvc/pitch", "/rvc/gate", "/rvc/bypass", "/rvc/mute", "/rvc/voice", "/rvc/status", "/rvc/version"} <= asked
        assert "/rvc/fail" not in asked
        for pattern in ("/rvc/*", "/rvc/*/*", "/*/*/*", "/rvc/panic*", "/rvc/{panic,mute,bypass}", "/rvc/*/{on,reset,step}"):
            client.send(pattern, 1)
        client.send("/rvc/gain/{in,out}", -3.0)
        await client.wait(lambda: session.get_param("gain_out") == session.get_param("gain_in") == -3.0)
        await client.settle()
        assert not session.is_panicked
        assert not any(session.switches.values())
        assert session.loads == []
        assert session.get_param("protect") == 0.5, "set by /rvc/* and clamped"

    converse(talk)


def test_24_stars_cost_nothing() -> None:
    async def talk(client: Client, session: FakeSession, server: OscServer) -> None:
        for _ in range(50):
            run_within(100_000, lambda: server.datagram_received(encode(STARS, 1), ("127.0.0.1", client.port)))
        await client.settle()

    converse(talk)
