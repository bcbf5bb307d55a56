"""Every key of every binding, by what it sends or what it changes on the screen."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from textual import events
from textual.binding import Binding

from rvcctl.app import RvcctlApp
from rvcctl.widgets.choice_screen import ChoiceList, ChoiceScreen
from rvcctl.widgets.entry_list import EntryList, PresetList
from rvcctl.widgets.help_screen import KEYS, HelpScreen
from rvcctl.widgets.log_tail import LogTail
from rvcctl.widgets.name_screen import NameScreen
from rvcctl.widgets.param_table import ParamTable
from rvcctl.widgets.row_list import RowList
from rvcd.params import BY_NAME
from tests.rvcctl.stage import FakeStage, play, stage

Sent = tuple[tuple[str, tuple[str | int | float, ...]], ...]


@dataclass(frozen=True)
class Case:
    """A key of an owner's BINDINGS. before: pressed first. sent: all that goes out. shows, hides: on the screen afterwards."""

    owner: type
    key: str
    before: tuple[str, ...] = ()
    sent: Sent = ()
    shows: str = ""
    hides: str = ""


STEERING: tuple[Case, ...] = (
    Case(RvcctlApp, "b", sent=(("/bypass", (1,)),)),
    Case(RvcctlApp, "m", sent=(("/mute", (1,)),)),
    Case(RvcctlApp, "space", sent=(("/panic", ()),)),
    Case(RvcctlApp, "c", sent=(("/panic/clear", ()),)),
    Case(RvcctlApp, "left_square_bracket", sent=(("/pitch", (1.0,)),)),
    Case(RvcctlApp, "right_square_bracket", sent=(("/pitch", (3.0,)),)),
    Case(RvcctlApp, "a", sent=(("/pitch/mode", ("auto",)),)),
    Case(RvcctlApp, "r", sent=(("/record", (1,)),)),
    Case(RvcctlApp, "t", sent=(("/talk", (0,)),)),
    *(Case(RvcctlApp, str(slot), sent=(("/voice/slot", (slot,)),)) for slot in range(1, 10)),
)
PAGES: tuple[Case, ...] = (
    Case(RvcctlApp, "p", ("v",), shows="[p params]"),
    Case(RvcctlApp, "v", shows="[v voices]"),
    Case(RvcctlApp, "s", shows="[s presets]"),
    Case(RvcctlApp, "e", shows="[e engine]"),
    Case(RvcctlApp, "l", shows="[l log]"),
)
BOXES: tuple[Case, ...] = (
    Case(RvcctlApp, "d", shows="● balanced"),
    Case(RvcctlApp, "f", shows="● swift"),
    Case(RvcctlApp, "k", shows="● speaker 0"),
    Case(RvcctlApp, "ctrl+s", shows="save the parameters as a preset"),
    Case(RvcctlApp, "question_mark", shows="clear the panic"),
    Case(RvcctlApp, "x", hides="CLIP"),
    Case(RvcctlApp, "h", shows="there is no monitor"),
    Case(RvcctlApp, "o"),
    Case(HelpScreen, "escape", ("question_mark",), hides="clear the panic"),
    Case(HelpScreen, "question_mark", ("question_mark",), hides="clear the panic"),
    Case(NameScreen, "escape", ("ctrl+s",), hides="save the parameters"),
    Case(ChoiceScreen, "escape", ("d",), hides="the default"),
    Case(ChoiceList, "enter", ("d", "down"), (("/latency/preset", ("safe",)),), hides="the default"),
)
IN_BOXES: tuple[Case, ...] = tuple(
    Case(owner, key, (opened_by,), sent)
    for owner, opened_by in ((HelpScreen, "question_mark"), (ChoiceScreen, "d"))
    for key, sent in (
        ("b", (("/bypass", (1,)),)), ("m", (("/mute", (1,)),)), ("space", (("/panic", ()),)), ("c", (("/panic/clear", ()),)),
    )
)  # fmt: skip
PARAMETERS: tuple[Case, ...] = (
    Case(ParamTable, "left", sent=(("/pitch", (1.0,)),), shows="+1.0 semitones"),
    Case(ParamTable, "right", sent=(("/pitch", (3.0,)),), shows="+3.0 semitones"),
    Case(ParamTable, "shift+left", sent=(("/pitch", (-10.0,)),)),
    Case(ParamTable, "shift+right", sent=(("/pitch", (14.0,)),)),
    Case(ParamTable, "ctrl+left", sent=(("/pitch", (1.9,)),)),
    Case(ParamTable, "ctrl+right", sent=(("/pitch", (2.1,)),)),
    Case(ParamTable, "0", sent=(("/pitch", (0.0,)),)),
    Case(ParamTable, "backspace", sent=(("/pitch", (0.0,)),)),
    Case(RvcctlApp, "p", shows="▸ autotune "),
    Case(RvcctlApp, "p", ("p",), shows="▸ denoise"),
    Case(RvcctlApp, "p", ("p", "p"), shows="▸ pitch"),
    Case(RvcctlApp, "p", ("p", "down", "v"), shows="▸ autotune_key"),
    Case(ParamTable, "right", ("p", "down"), (("/autotune/key", (1.0,)),)),
    Case(ParamTable, "shift+right", ("p", "down", "down"), (("/autotune/scale", (1.0,)),), shows="major "),
    Case(ParamTable, "ctrl+left", ("p", "down", "down"), (("/autotune/scale", (0.0,)),)),
)
ROWS: tuple[Case, ...] = (
    Case(RowList, "down", shows="▸ formant"),
    Case(RowList, "up", ("down", "down"), shows="▸ formant"),
    Case(RowList, "end", shows="▸ gain_out"),
    Case(RowList, "home", ("end",), shows="▸ pitch"),
    Case(RowList, "pagedown", shows="[tune]"),
    Case(RowList, "pageup", ("end",), shows="[tune]"),
    Case(EntryList, "enter", ("v", "down"), (("/voice", ("alto",)),)),
    Case(PresetList, "delete", ("s", "down"), shows="delete preset 'Bright'?"),
)
LOG: tuple[Case, ...] = (
    Case(LogTail, "up", ("l",), shows="↓ 1 newer"),
    Case(LogTail, "down", ("l", "up", "up"), shows="↓ 1 newer"),
    Case(LogTail, "pageup", ("l",), shows="↓ 8 newer"),
    Case(LogTail, "pagedown", ("l", "pageup", "up"), shows="↓ 1 newer"),
    Case(LogTail, "home", ("l",), shows="line 1 "),
    Case(LogTail, "end", ("l", "home"), shows="line 40 "),
)
GROUPS = (STEERING, PAGES, BOXES, IN_BOXES, PARAMETERS, ROWS, LOG)
CASES = tuple(case for group in GROUPS for case in group)
OWNERS = (
    RvcctlApp, HelpScreen, ChoiceScreen, NameScreen, ChoiceList, RowList, EntryList, PresetList, ParamTable, LogTail,
)  # fmt: skip


def keys_of(owner: type) -> set[str]:
    """Return every key of an owner's own BINDINGS."""
    bindings = vars(owner)["BINDINGS"]
    return {key for binding in bindings if isinstance(binding, Binding) for key in binding.key.split(",")}


@pytest.mark.parametrize("owner", OWNERS)
def test_every_key_has_a_case(owner: type) -> None:
    assert {case.key for case in CASES if case.owner is owner} == keys_of(owner)


async def crowd(on: FakeStage) -> None:
    """Add what some keys act on: a log longer than its page, clips, a value for the second parameter."""
    for number in range(1, 41):
        on.client.deliver("/log", number, "info", f"line {number} ")
    for address in ("/formant", "/autotune", "/autotune/key", "/autotune/scale"):
        on.client.deliver(address, 0.0)
    on.client.deliver_stats(in_clips=2)
    await on.update()


async def back_to_start(on: FakeStage) -> None:
    """Close what lies over the screen, go to the first parameter, forget what was sent, and let the last echoes be due."""
    while len(on.app.screen_stack) > 1:
        on.app.pop_screen()
    await on.pilot.pause()
    on.app.query_one(LogTail).action_newest()
    on.app.action_page("params")
    for rows in on.app.query(RowList).results(RowList):
        rows.action_first()
    on.clock.now_s += 1.0
    on.client.deliver_stats(in_clips=2)
    await on.update()
    on.client.sent.clear()


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[-1].owner.__name__)
def test_each_key_sends_and_shows_what_it_should(group: tuple[Case, ...]) -> None:
    async def scene() -> None:
        async with stage() as on:
            await crowd(on)
            for case in group:
                await back_to_start(on)
                await on.pilot.press(*case.before)
                await on.update()
                before = on.text()
                assert case.hides in before, case
                assert not case.shows or case.shows not in before, case
                await on.pilot.press(case.key)
                await on.pilot.pause()
                await on.update()
                assert tuple(on.client.sent) == case.sent, case
                assert case.shows in on.text(), case
                assert not case.hides or case.hides not in on.text(), case

    play(scene)


def test_tab_walks_through_the_pages_in_a_ring_and_shift_tab_back() -> None:
    async def scene() -> None:
        async with stage() as on:
            for page in ("[v voices]", "[s presets]", "[e engine]", "[l log]", "[p params]"):
                await on.pilot.press("tab")
                assert page in on.text()
            await on.pilot.press("shift+tab")
            assert "[l log]" in on.text()

    play(scene)


def test_keys_typed_fast_go_to_the_page_that_was_just_chosen() -> None:
    async def scene() -> None:
        async with stage() as on:
            await on.pilot.press("v", "down", "down", "enter", "s", "down", "enter")
            assert on.client.sent == [("/voice", ("bass",)), ("/preset/recall", ("Bright",))]

    play(scene)


def test_a_switch_that_is_on_is_turned_off_by_the_same_key() -> None:
    async def scene() -> None:
        async with stage() as on:
            for address, key in (("/bypass", "b"), ("/mute", "m"), ("/record", "r")):
                on.client.deliver(address, 1)
                await on.pilot.press(key)
                assert on.client.sent[-1] == (address, (0,))

    play(scene)


def test_the_monitor_is_muted_and_heard_again_and_its_source_changed() -> None:
    async def scene() -> None:
        async with stage() as on:
            for fields, key, sent, said in (
                ({}, "h", ("/monitor/mute", (1,)), "monitor: muted"),
                ({"monitor_mute": 1}, "h", ("/monitor/mute", (0,)), "monitor: on"),
                ({}, "o", ("/monitor/source", ("microphone",)), "monitor: your own voice"),
                ({"monitor_source": "microphone"}, "o", ("/monitor/source", ("converted",)), "monitor: what goes out"),
            ):
                on.client.deliver_stats(monitor_state="open", **fields)
                await on.pilot.press(key)
                assert on.client.sent[-1] == sent
                await on.shows(said)

    play(scene)


def test_auto_pitch_is_turned_on_and_off_and_what_it_adds_stands_beside_the_pitch() -> None:
    async def scene() -> None:
        async with stage() as on:
            on.client.deliver_stats()
            await on.pilot.press("a")
            assert on.client.sent[-1] == ("/pitch/mode", ("auto",))
            on.client.deliver_stats(pitch_mode="auto", pitch_auto=-5, register_hz=110.0)
            await on.update()
            assert "auto -5" in on.text()
            on.client.deliver_stats(pitch_mode="auto")
            await on.update()
            assert "no auto" in on.text()
            await on.pilot.press("a")
            assert on.client.sent[-1] == ("/pitch/mode", ("manual",))

    play(scene)


def test_a_preset_is_saved_under_a_name_that_can_be_one_and_one_with_a_slash_is_not() -> None:
    async def scene() -> None:
        async with stage() as on:
            await on.pilot.press("ctrl+s")
            await on.pilot.pause()
            assert "enter replaces 'Deep'" in on.text()
            await on.pilot.press("a", "/", "b", "enter")
            await on.pilot.pause()
            assert "a name has 1 to 64 letters" in on.text()
            assert on.client.sent == []
            await on.pilot.press("backspace", "backspace", "space", "9", "enter")
            await on.pilot.pause()
            assert on.client.sent == [("/preset/save", ("a 9",))]
            on.client.deliver("/done", "/rvc/preset/save", "a 9")
            await on.shows("saved preset 'a 9'")

    play(scene)


@pytest.mark.parametrize(
    ("answer", "sent"), [(("enter",), []), (("down", "enter"), [("/preset/delete", ("Deep",))]), (("escape",), [])]
)
def test_a_preset_is_deleted_only_when_asked_twice(answer: tuple[str, ...], sent: list[object]) -> None:
    async def scene() -> None:
        async with stage() as on:
            await on.pilot.press("s", "delete", *answer)
            await on.pilot.pause()
            assert on.client.sent == sent

    play(scene)


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        (("f", "down", "enter"), ("/f0/method", ("rmvpe",))),
        (("d", "up", "enter"), ("/latency/preset", ("low",))),
        (("k", "end", "enter"), ("/speaker", (2,))),
    ],
)
def test_a_box_sends_what_was_chosen_in_it(keys: tuple[str, ...], sent: tuple[str, tuple[object, ...]]) -> None:
    async def scene() -> None:
        async with stage() as on:
            await on.pilot.press(*keys)
            await on.pilot.pause()
            assert on.client.sent == [sent]

    play(scene)


@pytest.mark.parametrize(
    ("fields", "key", "words"),
    [({"talk_mode": "off"}, "t", "talk.mode is 'off'"), ({"speakers": 1}, "k", "has one speaker")],
)
def test_a_key_that_can_do_nothing_says_why(fields: dict[str, str | int], key: str, words: str) -> None:
    async def scene() -> None:
        async with stage() as on:
            on.client.deliver_stats(**fields)
            await on.pilot.press(key)
            await on.shows(words)
            assert on.client.sent == []

    play(scene)


def test_without_a_daemon_every_key_but_panic_sends_nothing_and_says_so() -> None:
    async def scene() -> None:
        async with stage(connected=False) as on:
            for case in (*STEERING, *PARAMETERS):
                if case.key != "space":
                    await on.pilot.press(case.key)
            for key in ("d", "f", "ctrl+s"):
                await on.pilot.press(key)
            await on.shows("no daemon at 127.0.0.1:9720")
            assert on.client.sent == []

    play(scene)


def test_a_number_stays_within_its_range_and_an_unknown_one_is_not_guessed() -> None:
    async def scene() -> None:
        async with stage() as on:
            await on.pilot.press("shift+right", "shift+right", "shift+right")
            assert on.client.sent[-1] == ("/pitch", (BY_NAME["pitch"].high,))
            await on.pilot.press("down", "right")
            assert len(on.client.sent) == 3
            await on.shows("formant is not known yet")

    play(scene)


async def place_of(on: FakeStage, words: str) -> tuple[int, int]:
    """Return column and row of some words on the screen."""
    await on.pilot.pause()
    for y, line in enumerate(on.lines()):
        if words in line:
            return line.index(words), y
    raise AssertionError(f"{words!r} is not on the screen")


def test_the_mouse_moves_a_slider_by_click_drag_and_wheel() -> None:
    async def scene() -> None:
        async with stage() as on:
            x, y = await place_of(on, "index_rate")
            await on.pilot.mouse_down(offset=(x + 15, y))
            assert on.client.sent[-1] == ("/index_rate", (0.0,))
            await on.pilot.hover(offset=(79, y + 1))
            await on.pilot.mouse_up(offset=(79, y + 1))
            assert on.client.sent[-1] == ("/index_rate", (1.0,))
            await on.pilot.hover(offset=(x + 24, y))
            assert on.client.sent[-1] == ("/index_rate", (1.0,))
            await on.update()
            assert "▸ index_rate" in on.text()
            table = on.app.query_one(ParamTable)
            for kind, shift, value in (
                (events.MouseScrollDown, False, 0.95), (events.MouseScrollUp, False, 1.0), (events.MouseScrollDown, True, 0.99),
            ):  # fmt: skip
                wheel = kind(table, x=5, y=3, delta_x=0, delta_y=0, button=0, shift=shift, meta=False, ctrl=False)
                table.post_message(wheel)
                await on.pilot.pause()
                assert on.client.sent[-1] == ("/index_rate", (value,))

    play(scene)


def test_a_click_on_a_group_shows_its_parameters_and_what_each_does() -> None:
    async def scene() -> None:
        async with stage() as on:
            await crowd(on)
            for words, row, said in (
                ("tune off", "▸ autotune ", "how far the pitch is pulled to the notes of a scale; 0 turns it off"),
                ("levels", "▸ denoise ", "0..1 · default 0"),
                ("voice pitch", "▸ pitch ", "-24..24 semitones · default 0"),
            ):
                await on.pilot.click(offset=await place_of(on, words))
                await on.update()
                assert row in on.text() and said in on.text()

    play(scene)


def test_what_autotune_does_is_seen_from_the_other_groups() -> None:
    async def scene() -> None:
        async with stage() as on:
            for address, value in (("/autotune", 0.8), ("/autotune/key", 10.0), ("/autotune/scale", 0.0)):
                on.client.deliver(address, value)
            await on.update()
            assert "tune 0.80 chromatic" in on.text("#params")
            on.client.deliver("/autotune/scale", 2.0)
            await on.update()
            assert "tune 0.80 A# minor" in on.text("#params")

    play(scene)


def test_a_click_chooses_voices_presets_pages_and_opens_boxes() -> None:
    async def scene() -> None:
        async with stage() as on:
            for words, sent in (
                ("v voices", None), ("alto", ("/voice", ("alto",))),
                ("s presets", None), ("Bright", ("/preset/recall", ("Bright",))),
            ):  # fmt: skip
                await on.pilot.click(offset=await place_of(on, words))
                if sent:
                    assert on.client.sent[-1] == sent
            await on.pilot.click("#latency")
            await on.pilot.click(offset=await place_of(on, "safe"))
            await on.pilot.pause()
            assert on.client.sent[-1] == ("/latency/preset", ("safe",))
            await on.pilot.click("#note")
            await on.pilot.click(offset=await place_of(on, "yin"))
            await on.pilot.pause()
            assert on.client.sent[-1] == ("/f0/method", ("yin",))

    play(scene)


def test_a_long_list_scrolls_with_its_cursor_and_says_that_there_is_more() -> None:
    async def scene() -> None:
        async with stage() as on:
            on.client.deliver_list("/voice/list", *(f"voice {n:02d}" for n in range(1, 31)))
            await on.pilot.press("v")
            await on.update()
            assert "voice 09" in on.text("#voices") and "voice 10" not in on.text("#voices")
            assert on.text("#voices").splitlines()[-1].rstrip().endswith("↓")
            await on.pilot.press("end", "enter")
            await on.update()
            assert on.text("#voices").splitlines()[0].rstrip().endswith("↑")
            assert on.client.sent == [("/voice", ("voice 30",))]

    play(scene)


def test_the_help_page_names_every_key_of_the_screen() -> None:
    named = {key for keys, _ in KEYS for key in keys.split()}
    written = {"left_square_bracket": "[", "right_square_bracket": "]", "question_mark": "?"}
    for key in keys_of(RvcctlApp) - {str(slot) for slot in range(1, 10)}:
        assert written.get(key, key) in named, key
    assert {"1-9", "ctrl+p", "ctrl+q"} <= named


def test_a_name_is_shown_as_whole_as_the_room_allows() -> None:
    async def scene() -> None:
        async with stage((118, 40)) as on:
            on.client.deliver_list("/voice/list", "test-buzz", "x" * 64)
            on.client.deliver_stats(voice="test-buzz")
            await on.update()
            assert "● test-buzz" in on.text("#voices")
            assert "xxxxxx" in on.text("#voices")

    play(scene)


def test_textuals_own_palette_opens_with_ctrl_p_and_sends_nothing() -> None:
    async def scene() -> None:
        async with stage() as on:
            await on.pilot.press("ctrl+p")
            await on.shows("Search for commands")
            await on.pilot.press("escape")
            assert on.client.sent == []

    play(scene)
