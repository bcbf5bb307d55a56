from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rvcd.control.osc import OscMessage, decode, encode
from rvcd.control.server import OscServer, OscSettings, parse_networks
from rvcd.control.subscriptions import FeedbackTarget
from rvcd.control.verbs import ROUTES, VERBS, Action, Limit, Wildcard, find_verb, reference_markdown
from rvcd.errors import RvcdError
from rvcd.params import PARAMS
from rvcd.protocol import NUMBER_ADDRESSES, PREFIX, SWITCH_ADDRESSES, State, Stats
from tests.control.fake_rig import FakeRig
from tests.control.packets import KILLERS, STARS, bundle, mutated
from tests.control.udp import Client, client_of, serving

Talk = Callable[[Client, FakeRig, OscServer], Awaitable[Any]]


def converse(talk: Talk, rig: FakeRig | None = None, **options: Any) -> None:
    """Run one conversation of one client with a server on loopback."""
    rig = rig or FakeRig()

    async def run() -> None:
        async with serving(rig, **options) as server, client_of(server) as client:
            await talk(client, rig, server)

    asyncio.run(run())


# The table


def test_every_parameter_has_its_four_addresses() -> None:
    for param in PARAMS:
        assert [ROUTES[param.address + end].subject for end in ("", "/norm", "/step", "/reset")] == [param.name] * 4


def test_the_protocol_and_the_parameters_name_the_same_addresses() -> None:
    assert tuple(param.address for param in PARAMS) == NUMBER_ADDRESSES
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

    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
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
    assert reference_markdown().count("\n") == len(VERBS) + 2


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
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        client.send_raw(datagram)
        reply = await client.expect("/rvc/pitch")
        assert reply.args == (applied,)
        assert isinstance(reply.args[0], float)
        assert rig.get_param("pitch") == applied

    converse(talk)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "three"])
def test_what_is_not_a_finite_number_fails_and_changes_nothing(wrong: object) -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for address in ("/rvc/pitch", "/rvc/pitch/norm", "/rvc/pitch/step", "/rvc/bypass", "/rvc/mute/on", "/rvc/voice/slot"):
            reply = await client.ask(address, wrong, reply="/rvc/fail")
            assert reply.args[0] == address
        assert rig == FakeRig()

    converse(talk)


def test_no_argument_asks_for_the_value() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        rig.set_param("gain_in", -6.0)
        rig.switches["bypass"] = True
        rig.live = rig.registry[1]
        assert (await client.ask("/rvc/gain/in")).args == (-6.0,)
        assert (await client.ask("/rvc/bypass")).args == (1,)
        assert (await client.ask("/rvc/voice")).args == ("Bo Li",)
        assert (await client.ask("/rvc/voice/slot")).args == (2,)
        assert (await client.ask("/rvc/f0/method")).args == ("swift",)
        assert (await client.ask("/rvc/gate/norm")).args == (pytest.approx(1 / 3),)

    converse(talk)


def test_a_number_can_be_set_by_0_to_1_stepped_and_reset() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        assert (await client.ask("/rvc/pitch/norm", 0.75)).args == (0.75,)
        assert client.find("/rvc/pitch")[-1].args == (12.0,)
        assert (await client.ask("/rvc/pitch/step", -2, reply="/rvc/pitch")).args == (10.0,)
        assert (await client.ask("/rvc/pitch/step", 100.0, reply="/rvc/pitch")).args == (24.0,)
        client.send("/rvc/pitch/reset", 0.0)
        assert (await client.ask("/rvc/pitch")).args == (24.0,)
        assert (await client.ask("/rvc/pitch/reset", reply="/rvc/pitch")).args == (0.0,)

    converse(talk)


def test_a_fader_flood_is_thinned_out_but_its_last_value_is_applied() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for step in range(120):
            client.send("/rvc/pitch", step / 10)
            client.send("/rvc/gain/in", -step / 10)
            if step % 20 == 0:
                await asyncio.sleep(0.001)
        await client.wait(lambda: client.find("/rvc/pitch") and client.find("/rvc/pitch")[-1].args[0] == pytest.approx(11.9))
        await client.wait(lambda: client.find("/rvc/gain/in")[-1].args[0] == pytest.approx(-11.9))
        assert rig.get_param("pitch") == pytest.approx(11.9)
        assert len([name for name, _ in rig.applied if name == "pitch"]) < 60

    converse(talk)


def test_a_query_right_after_a_burst_answers_with_the_last_value() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        client.send_raw(bundle(encode("/rvc/pitch", 1), encode("/rvc/pitch", 2), encode("/rvc/pitch", 7), encode("/rvc/pitch")))
        await client.wait(lambda: client.find("/rvc/pitch") and client.find("/rvc/pitch")[-1].args == (7.0,))
        assert [value for _, value in rig.applied] == [1.0, 7.0]

    converse(talk)


# Switches, triggers, panic


@pytest.mark.parametrize("name", ["bypass", "mute"])
def test_a_switch_takes_ints_floats_and_booleans_and_answers_with_an_int(name: str) -> None:
    base = f"/rvc/{name}"
    padded = base.encode() + b"\0" * (4 - len(base) % 4)

    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
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
            assert rig.switches[name] is on, datagram
        assert {type(message.args[0]) for message in client.find(base)} == {int}
        assert len(client.find(base)) == 8, "the two releases are not answered"

    converse(talk)


def test_panic_latches_until_it_is_cleared_and_ignores_the_release_of_its_button() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        client.send("/rvc/panic", 0.0)
        await client.settle()
        assert not rig.is_panicked
        assert (await client.ask("/rvc/panic", 1.0)).args == (1,)
        assert (await client.ask("/rvc/status")).args == ("panic", "", 0, 0, 1)
        client.send("/rvc/panic/clear", 0)
        await client.settle()
        assert rig.is_panicked
        assert (await client.ask("/rvc/panic/clear", reply="/rvc/panic")).args == (0,)
        client.send_raw(b"/rvc/panic\0\0,I\0\0")
        assert (await client.expect("/rvc/panic", 3)).args == (1,)

    converse(talk)


# Voices and F0 methods


def test_a_voice_is_loaded_by_name_by_slot_and_by_an_address_without_arguments() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for address, args, live in (
            ("/rvc/voice", ("Bo Li",), ("Bo Li", 2)),
            ("/rvc/voice", (1,), ("Anna", 1)),
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
    ("/rvc/voice", ("../../etc/passwd",), "letters, digits"),
    ("/rvc/voice", ("Anna\n",), "letters, digits"),
    ("/rvc/voice", ("x" * 65,), "letters, digits"),
    ("/rvc/voice", (9,), "no voice is in slot 9"),
    ("/rvc/voice/slot/9", (), "no voice is in slot 9"),
    ("/rvc/voice", ("broken.v2",), "cut short"),
    ("/rvc/f0/method", ("magic",), "known: swift, rmvpe"),
    ("/rvc/f0/method", (99,), "outside 0..6"),
    ("/rvc/f0/method", ("pm",), "rvcd[pm]"),
    ("/rvc/subscribe", (80,), "outside 1024..65535"),
    ("/rvc/subscribe", ("everything",), "known: params, meters, stats"),
    ("/rvc/nonsense", (), "unknown address"),
    ("/rvc/pitch/step", (), "needs a number"),
    ("/rvc/q*", (), "matches no value"),
])  # fmt: skip
def test_a_command_that_cannot_be_done_fails_with_its_address_and_the_reason(
    address: str, args: tuple[Any, ...], reason: str
) -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        reply = await client.ask(address, *args, reply="/rvc/fail")
        assert reply.args[0] == address
        assert reason in str(reply.args[1])
        assert not client.find("/rvc/done")

    converse(talk)


def test_an_f0_method_is_chosen_by_name_or_index() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        assert (await client.ask("/rvc/f0/method", "yin", reply="/rvc/done")).args == ("/rvc/f0/method", "yin")
        assert (await client.expect("/rvc/f0/method")).args == ("yin",)
        assert (await client.ask("/rvc/f0/method", 1.0)).args == ("rmvpe",)

    converse(talk)


def test_voices_are_listed_one_a_message_and_then_counted() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        assert (await client.ask("/rvc/voice/list", reply="/rvc/voice/list/end")).args == (3,)
        assert [message.args for message in client.find("/rvc/voice/list")] == [(1, "Anna"), (2, "Bo Li"), (3, "broken.v2")]

    converse(talk)


def test_panic_and_mute_act_while_a_voice_loads() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        rig.gate = asyncio.Event()
        client.send("/rvc/voice", "Anna")
        await client.settle()
        assert (await client.ask("/rvc/mute", 1)).args == (1,)
        assert (await client.ask("/rvc/panic")).args == (1,)
        assert rig.loads == ["Anna"]
        assert rig.live.slot == 0
        rig.gate.set()
        assert (await client.expect("/rvc/done")).args == ("/rvc/voice", "Anna", 1)

    converse(talk)


def test_a_newer_voice_supersedes_the_waiting_one_but_not_the_running_one_nor_an_f0_method() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        rig.gate = asyncio.Event()
        async with client_of(server) as second:
            client.send("/rvc/voice", "Anna")
            await client.settle()
            second.send("/rvc/voice/slot/2")
            second.send("/rvc/f0/method", "yin")
            await second.settle()
            client.send("/rvc/voice/slot/1")
            assert (await second.expect("/rvc/fail")).args == ("/rvc/voice/slot/2", "superseded by a newer request")
            rig.gate.set()
            assert (await client.expect("/rvc/done", 2)).args == ("/rvc/voice/slot/1", "Anna", 1)
            assert (await second.expect("/rvc/done")).args == ("/rvc/f0/method", "yin")
            assert rig.loads == ["Anna", "Anna"]
            assert len(second.find("/rvc/fail")) == 1

    converse(talk)


def test_two_quick_presses_of_next_go_two_voices_on() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        rig.registry = tuple(voice for voice in FakeRig().registry if "broken" not in voice.name)
        rig.gate = asyncio.Event()
        client.send("/rvc/voice/next")
        client.send("/rvc/voice/next")
        await client.settle()
        rig.gate.set()
        await client.expect("/rvc/done", 2)
        assert rig.loads == ["Anna", "Bo Li"]

    converse(talk)


def test_next_goes_past_a_voice_that_cannot_be_loaded() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        await client.ask("/rvc/voice", 2, reply="/rvc/done")
        assert (await client.ask("/rvc/voice/next", reply="/rvc/fail")).args[0] == "/rvc/voice/next"
        assert rig.live.name == "Bo Li"
        assert (await client.ask("/rvc/voice/next", reply="/rvc/done")).args[1] == "Anna"

    converse(talk)


def test_a_load_that_never_ends_fails_and_the_next_one_works() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        rig.gate = asyncio.Event()
        assert "no result after 0.1 s" in str((await client.ask("/rvc/voice", "Anna", reply="/rvc/fail")).args[1])
        rig.gate = None
        assert (await client.ask("/rvc/voice", 2, reply="/rvc/done")).args[1] == "Bo Li"

    converse(talk, slow_timeout_s=0.1)


# Queries


def test_ping_version_and_status() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        assert (await client.ask("/rvc/ping", 7, 0.5, "x", reply="/rvc/pong")).args == (7, 0.5, "x")
        assert (await client.ask("/rvc/ping", reply="/rvc/pong")).args == ()
        assert (await client.ask("/rvc/version")).args == ("0.1.0", "1")
        assert (await client.ask("/rvc/status")).args == (State.NO_VOICE.value, "", 0, 0, 0)

    converse(talk)


# Patterns


def test_a_pattern_asks_for_values_and_sets_numbers_but_triggers_nothing() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        client.send("/rvc/*")
        await client.settle()
        asked = {message.address for message in client.inbox}
        assert {"/rvc/pitch", "/rvc/gate", "/rvc/bypass", "/rvc/mute", "/rvc/voice", "/rvc/status", "/rvc/version"} <= asked
        assert "/rvc/fail" not in asked
        for pattern in ("/rvc/*", "/rvc/*/*", "/*/*/*", "/rvc/panic*", "/rvc/{panic,mute,bypass}", "/rvc/*/{on,reset,step}"):
            client.send(pattern, 1)
        client.send("/rvc/gain/{in,out}", -3.0)
        await client.wait(lambda: rig.get_param("gain_out") == rig.get_param("gain_in") == -3.0)
        await client.settle()
        assert not rig.is_panicked
        assert rig.switches == {"bypass": False, "mute": False}
        assert rig.loads == []
        assert rig.get_param("protect") == 0.5, "set by /rvc/* and clamped"

    converse(talk)


def test_24_stars_cost_nothing() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        started = time.perf_counter()
        for _ in range(50):
            client.send(STARS, 1)
        await client.settle()
        assert time.perf_counter() - started < 2.0

    converse(talk)


# Subscriptions


def test_a_change_by_one_client_is_echoed_to_the_subscribers_at_the_identical_path() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        async with client_of(server) as watcher:
            done = await watcher.ask("/rvc/subscribe", 0, 30, "params", reply="/rvc/done")
            assert done.args == ("/rvc/subscribe", "127.0.0.1", watcher.port, 30, "params", 10)
            await watcher.expect("/rvc/status")
            state = {message.address for message in watcher.inbox}
            assert {PREFIX + param.address for param in PARAMS} <= state
            assert {"/rvc/bypass", "/rvc/mute", "/rvc/panic", "/rvc/voice", "/rvc/voice/slot", "/rvc/f0/method"} <= state
            watcher.inbox.clear()
            await client.ask("/rvc/pitch", 99)
            assert (await watcher.expect("/rvc/pitch")).args == (24.0,)
            await client.ask("/rvc/mute/on", reply="/rvc/mute")
            assert (await watcher.expect("/rvc/mute")).args == (1,)
            assert (await watcher.expect("/rvc/status")).args == ("muted", "", 0, 1, 0)
            await client.ask("/rvc/voice", 1, reply="/rvc/done")
            assert (await watcher.expect("/rvc/voice")).args == ("Anna",)
            await watcher.ask("/rvc/gate", -50)
            await watcher.settle()
            assert len(watcher.find("/rvc/gate")) == 1, "the sender has its reply already"
            assert not client.find("/rvc/status"), "who does not subscribe is told nothing"
            assert not watcher.find("/rvc/stats")
            assert not watcher.find("/rvc/load")

    converse(talk)


def test_a_fader_flood_reaches_a_slow_subscriber_thinned_out_and_with_its_last_value() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        async with client_of(server) as watcher:
            await watcher.ask("/rvc/subscribe", 0, 10, "params", reply="/rvc/done")
            await watcher.expect("/rvc/status")
            watcher.inbox.clear()
            started = time.perf_counter()
            for step in range(60):
                client.send("/rvc/pitch", step / 10)
                await asyncio.sleep(0.004)
            await watcher.wait(
                lambda: watcher.find("/rvc/pitch") and watcher.find("/rvc/pitch")[-1].args[0] == pytest.approx(5.9)
            )
            assert len(watcher.find("/rvc/pitch")) <= 3 + 10 * (time.perf_counter() - started)

    converse(talk)


def test_what_the_daemon_changes_by_itself_is_echoed_too() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        await client.ask("/rvc/subscribe", "params", reply="/rvc/done")
        await client.expect("/rvc/status")
        rig.set_param("protect", 0.1)
        await client.wait(lambda: client.find("/rvc/protect")[-1].args == (pytest.approx(0.1),))
        rig.is_panicked = True
        server.changed()
        await client.wait(lambda: client.find("/rvc/panic")[-1].args == (1,))

    converse(talk)


def test_telemetry_comes_at_about_the_rate_asked_for_in_the_groups_asked_for() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        await client.ask("/rvc/subscribe", 0, 25.0, "meters", "stats", reply="/rvc/done")
        await asyncio.sleep(0.6)
        assert 4 <= len(client.find("/rvc/stats")) <= 25
        assert abs(len(client.find("/rvc/meter/in/peak")) - len(client.find("/rvc/stats"))) <= 1
        assert not client.find("/rvc/pitch")
        await client.ask("/rvc/unsubscribe", reply="/rvc/done")
        client.inbox.clear()
        await asyncio.sleep(0.1)
        assert client.inbox == []

    converse(talk)


def test_the_first_meters_of_a_subscriber_cover_a_whole_period() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        asked: list[float] = []
        measure = rig.stats

        def stats() -> Stats:
            asked.append(time.monotonic())
            return measure()

        rig.stats = stats  # type: ignore[method-assign]
        client.send("/rvc/subscribe", 0, 10.0, "stats")
        await client.expect("/rvc/stats")
        # Taking peaks empties them: a level read at once after would be that of no time at all, as `rvcctl status` showed it.
        assert len(asked) == 2 and asked[1] - asked[0] > 0.08

    converse(talk)


def test_the_port_of_a_subscription_may_be_chosen_but_never_the_host() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        async with client_of(server) as ear:
            client.send("/rvc/subscribe", float(ear.port), 20.0, "params")
            assert (await ear.expect("/rvc/status")).args[0] == "no-voice"
            done = await client.expect("/rvc/done")
            assert done.args[1:3] == ("127.0.0.1", ear.port)
            assert not ear.find("/rvc/done")
            assert not client.find("/rvc/status")
            assert "daemon's own" in str((await client.ask("/rvc/subscribe", server.address[1], reply="/rvc/fail")).args[1])

    converse(talk)


def test_configured_feedback_targets_are_told_without_asking() -> None:
    async def run() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
            ear.bind(("127.0.0.1", 0))
            ear.setblocking(False)
            target = FeedbackTarget("127.0.0.1", ear.getsockname()[1], 20, ("params", "stats"))
            async with serving(settings=OscSettings(port=0, feedback=(target,))) as server, client_of(server) as client:
                await client.ask("/rvc/pitch", 5)
                heard: list[OscMessage] = []
                for _ in range(50):
                    await asyncio.sleep(0.02)
                    while True:
                        try:
                            heard += decode(ear.recv(65536), max_arguments=64)
                        except BlockingIOError:
                            break
                    told = {m.address: m.args for m in heard}
                    if told.get("/rvc/pitch") == (5.0,) and "/rvc/stats" in told:
                        return
                raise AssertionError(heard[-20:])

    asyncio.run(run())


# Hostile and broken


def test_thousands_of_hostile_datagrams_leave_the_server_answering_and_no_table_grown(caplog: pytest.LogCaptureFixture) -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        rng = random.Random(2)
        hostile = [*KILLERS.values(), *(mutated(rng) for _ in range(4000))]
        async with client_of(server) as attacker:
            for at, datagram in enumerate(hostile):
                attacker.send_raw(datagram)
                if at % 100 == 0:
                    await asyncio.sleep(0.005)
            started = time.perf_counter()
            await client.settle()
            assert time.perf_counter() - started < 2.0
            await asyncio.sleep(0)
        assert server.counters.received > 3000
        assert server.counters.malformed > 2000
        assert len(server.router.sources) <= 2
        assert len(server.subscriptions.targets()) <= 1
        assert len(asyncio.all_tasks()) <= 4

    with caplog.at_level(logging.WARNING, "rvcd"):
        converse(talk)
    lines = [record for record in caplog.records if "malformed" in record.getMessage()]
    assert len(lines) == 1, "one line, not four thousand"


def test_a_malformed_datagram_is_never_answered() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for datagram in KILLERS.values():
            client.send_raw(datagram)
        await client.settle()
        assert {message.address for message in client.inbox} == {"/rvc/pong"}

    converse(talk)


def test_the_table_of_sources_is_bounded() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for port in range(1000):
            server.datagram_received(encode("/rvc/version"), ("127.0.0.1", 20000 + port))
        assert len(server.router.sources) <= 256

    converse(talk)


def test_a_flood_of_queries_is_throttled_while_panic_passes_and_others_are_served() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        flooder = ("127.0.0.1", 40000)
        for _ in range(1500):
            server.datagram_received(encode("/rvc/version"), flooder)
        assert server.router.counters.throttled > 300
        server.datagram_received(encode("/rvc/panic"), flooder)
        server.datagram_received(encode("/rvc/mute", 1), flooder)
        server.datagram_received(encode("/rvc/pitch", 4), flooder)
        assert rig.is_panicked
        assert rig.switches["mute"]
        assert rig.get_param("pitch") == 4.0
        await client.settle()

    converse(talk)


def test_voice_requests_have_a_low_rate_and_say_so() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for _ in range(40):
            client.send("/rvc/voice/list")
        await client.settle()
        assert len(client.find("/rvc/voice/list/end")) < 20
        assert "too many requests" in str(client.find("/rvc/fail")[-1].args[1])

    converse(talk)


def test_answers_of_another_daemon_are_not_answered() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        for address in ("/rvc/fail", "/rvc/done", "/rvc/pong", "/rvc/stats", "/rvc/meter/in/peak", "/other/program", "/rvcx"):
            client.send(address, "x")
        await client.settle()
        assert {message.address for message in client.inbox} == {"/rvc/pong"}
        assert server.router.counters.foreign == 7

    converse(talk)


def test_a_defect_in_the_daemon_becomes_a_failure_and_a_log_line_and_the_server_lives() -> None:
    async def talk(client: Client, rig: FakeRig, server: OscServer) -> None:
        rig.defect = True
        reply = await client.ask("/rvc/pitch", 1, reply="/rvc/fail")
        assert reply.args == ("/rvc/pitch", "internal error (ZeroDivisionError); the daemon's log has more")
        client.send_raw(bundle(encode("/rvc/gate", -1), encode("/rvc/gate", -2)))
        await client.expect("/rvc/fail", 3)
        rig.defect = False
        assert (await client.ask("/rvc/gate", -3)).args == (-3.0,)

    converse(talk)


# Starting


def refusal_of(settings: OscSettings) -> str:
    async def run() -> str:
        with pytest.raises(RvcdError) as refused:
            async with serving(settings=settings):
                pass
        return str(refused.value)

    return asyncio.run(run())


def test_a_port_in_use_is_named_with_the_fix() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        message = refusal_of(OscSettings(port=port))
    assert str(port) in message
    assert "osc.port" in message


@pytest.mark.parametrize(("settings", "expected"), [
    (OscSettings("0.0.0.0", 0), "osc.allow is empty"),
    (OscSettings("::", 0), "osc.allow is empty"),
    (OscSettings("192.0.2.1", 0, ("192.0.2.0/24",)), "no such address"),
    (OscSettings("127.0.0.1", 0, ("local network",)), "'local network'"),
    (OscSettings("not a host", 0), "'not a host' has no address"),
    (OscSettings("127.0.0.1", 0, (), (FeedbackTarget("no.such.host.invalid", 9000),)), "no.such.host.invalid"),
    (OscSettings("127.0.0.1", 0, (), (FeedbackTarget("127.0.0.1", 9000, 10, ("lights",)),)), "unknown group 'lights'"),
])  # fmt: skip
def test_settings_that_cannot_be_served_are_refused_in_one_sentence(settings: OscSettings, expected: str) -> None:
    message = refusal_of(settings)
    assert expected in message
    assert "\n" not in message


def test_only_listed_networks_and_this_machine_may_talk_to_a_server_open_to_the_network() -> None:
    async def run() -> None:
        rig = FakeRig()
        async with serving(rig, OscSettings("0.0.0.0", 0, ("192.0.2.0/24", "10.0.0.5"))) as server:
            for host in ("198.51.100.7", "10.0.0.6", "not an address"):
                server.datagram_received(encode("/rvc/panic"), (host, 5000))
            assert not rig.is_panicked
            assert server.counters.refused_sources == 3
            for host in ("192.0.2.77", "10.0.0.5", "127.0.0.1"):
                rig.clear_panic()
                server.datagram_received(encode("/rvc/panic"), (host, 5000))
                assert rig.is_panicked
            server.datagram_received(encode("/rvc/panic/clear"), ("127.0.0.1", server.address[1]))
            assert rig.is_panicked, "the server does not listen to itself"

    asyncio.run(run())


def test_an_ipv4_client_of_an_ipv6_socket_is_judged_by_its_ipv4_address() -> None:
    server = OscServer(OscSettings(), FakeRig())
    server._allow = parse_networks(("192.0.2.0/24",))
    assert server._may_talk(("::ffff:192.0.2.9", 5000, 0, 0))
    assert server._may_talk(("::1", 5000, 0, 0))
    assert not server._may_talk(("::ffff:198.51.100.7", 5000, 0, 0))


def test_ipv6_loopback_is_served() -> None:
    async def run() -> None:
        try:
            async with serving(settings=OscSettings("::1", 0)) as server, client_of(server, "::1") as client:
                await client.ask("/rvc/subscribe", reply="/rvc/status")
                assert (await client.ask("/rvc/pitch", 2)).args == (2.0,)
        except RvcdError:
            pytest.skip("no IPv6 on this machine")

    asyncio.run(run())
