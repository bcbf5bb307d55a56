from __future__ import annotations

import pytest
from textual.widget import Widget

from rvcctl.widgets.counters import Counters
from rvcctl.widgets.help_screen import HelpScreen
from rvcctl.widgets.history import History
from rvcctl.widgets.latency_bar import LatencyBar
from rvcctl.widgets.level_meter import LevelMeter
from rvcctl.widgets.note_display import NoteDisplay
from rvcctl.widgets.state_banner import StateBanner
from rvcd import protocol
from tests.rvcctl.stage import play, stage


@pytest.mark.parametrize(
    ("fields", "symbol", "word"),
    [
        ({}, "●", "LIVE"),
        ({"bypass": 1, "state": "bypass"}, "⇄", "BYPASS"),
        ({"mute": 1, "state": "muted"}, "■", "MUTED"),
        ({"panic": 1, "state": "panic"}, "▲", "PANIC"),
        ({"state": "standby", "talk": 0}, "◇", "STANDBY"),
        ({"state": "starting"}, "◌", "STARTING"),
        ({"state": "recovering"}, "↻", "RECOVERING"),
        ({"state": "no-voice", "voice": ""}, "○", "NO VOICE"),
        ({"state": "no-device"}, "✕", "NO DEVICE"),
        ({"state": "dreaming"}, "?", "DREAMING"),
    ],
)
def test_every_state_has_a_word_and_a_symbol(fields: dict[str, str | int], symbol: str, word: str) -> None:
    async def scene() -> None:
        async with stage() as on:
            on.client.deliver_stats(**fields)
            await on.update()
            assert f"{symbol} {word}" in on.text("#banner")

    play(scene)


def test_the_screen_shows_voice_levels_note_latency_and_losses_at_80x24() -> None:
    async def scene() -> None:
        async with stage() as on:
            shown = on.text()
            pieces = "demo [1]|-18.0|-20.0|+0 cents|220.0 Hz|190.7 ms|block 100.0|lookahead 40.0|out 5.4|33 %|p95 36 %|50 %"
            pieces += "|nothing lost|p95 36 of 40 ms|+2.0 semitones|-24..24|f swift|d balanced|preset Deep|rec off|? help"
            for piece in pieces.split("|"):
                assert piece in shown, piece

    play(scene)


def test_without_a_daemon_the_banner_says_so() -> None:
    async def scene() -> None:
        async with stage(connected=False) as on:
            assert "✕ NO DAEMON" in on.text("#banner")
            assert "127.0.0.1:9720 · never heard from it" in on.text("#banner")

    play(scene)


def test_silence_of_the_daemon_shows_the_age_of_the_data_and_its_return_clears_it() -> None:
    async def scene() -> None:
        async with stage() as on:
            on.clock.now_s += 12.0
            await on.update()
            assert "NO DAEMON" in on.text("#banner")
            assert "data 12 s old" in on.text("#banner")
            assert on.app.query_one("#body").has_class("-stale")
            on.client.deliver_stats()
            await on.update()
            assert "LIVE" in on.text("#banner")
            assert not on.app.query_one("#body").has_class("-stale")

    play(scene)


def test_fast_pitch_presses_add_up_before_their_echoes_are_back() -> None:
    async def scene() -> None:
        async with stage() as on:
            await on.pilot.press("]", "]", "]")
            assert [args for _, args in on.client.sent] == [(3.0,), (4.0,), (5.0,)]
            for echo in (3.0, 4.0, 5.0):
                on.client.deliver("/pitch", echo)
            on.client.deliver("/pitch", 24.0)
            await on.pilot.press("]")
            on.client.deliver("/pitch", 24.0)
            await on.pilot.press("[")
            assert on.client.sent[-1] == ("/pitch", (23.0,))

    play(scene)


def test_a_key_without_a_daemon_is_reported_and_only_panic_is_sent() -> None:
    async def scene() -> None:
        async with stage(connected=False) as on:
            await on.pilot.press("b", "]")
            assert on.client.sent == []
            await on.pilot.press("space")
            assert on.client.sent == [("/panic", ())]
            await on.shows("no daemon at 127.0.0.1:9720")

    play(scene)


def test_panic_works_while_the_help_page_is_open_and_a_key_closes_it() -> None:
    async def scene() -> None:
        async with stage() as on:
            await on.pilot.press("?")
            assert isinstance(on.app.screen, HelpScreen)
            assert "the daemon goes on" in on.text()
            await on.pilot.press("space")
            assert on.client.sent == [("/panic", ())]
            await on.update()  # the screen below goes on living
            await on.pilot.press("?")
            assert not isinstance(on.app.screen, HelpScreen)

    play(scene)


def test_leaving_sends_nothing_that_stops_the_daemon() -> None:
    async def scene() -> None:
        async with stage() as on:
            await on.pilot.press("ctrl+q")
            await on.pilot.pause()
            assert on.client.sent == []
            assert not on.app.is_running or on.app._exit

    play(scene)


def test_a_failed_command_is_shown_with_the_daemons_reason_and_its_brackets_are_only_text() -> None:
    async def scene() -> None:
        async with stage() as on:
            on.client.deliver("/fail", "/rvc/voice", "no voice [bold]x[/bold]")
            await on.shows("no voice [bold]x[/bold]")

    play(scene)


def test_a_request_that_a_newer_one_replaced_is_not_shown_as_a_failure() -> None:
    async def scene() -> None:
        async with stage() as on:
            on.client.deliver("/fail", "/rvc/voice", protocol.SUPERSEDED)
            on.client.deliver("/fail", "/rvc/voice", "the next one")
            await on.shows("the next one")
            assert protocol.SUPERSEDED not in on.text()

    play(scene)


def test_the_clip_mark_stays_until_x_or_a_click_clears_it() -> None:
    async def scene() -> None:
        async with stage() as on:
            on.client.deliver_stats(in_clips=2)
            await on.update()
            assert "CLIP 2" in on.text("#in")
            on.clock.now_s += 60.0
            on.client.deliver_stats(in_clips=2)
            await on.update()
            assert "CLIP 2" in on.text("#in")
            await on.pilot.press("x")
            await on.pilot.pause()
            assert "CLIP" not in on.text("#in")
            on.client.deliver_stats(in_clips=3)
            await on.update()
            assert "CLIP 1" in on.text("#in")
            await on.pilot.click("#out")
            await on.pilot.pause()
            assert "CLIP" not in on.text("#in")

    play(scene)


def test_a_burst_changes_the_screen_once_and_keeps_its_highest_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with stage() as on:
            drawn: list[float] = []
            meter = on.app.query_one("#in", LevelMeter)
            feed = meter.ballistics.feed

            def spy(peak_dbfs: float, clip_count: int, now_s: float) -> None:
                drawn.append(peak_dbfs)
                feed(peak_dbfs, clip_count, now_s)

            monkeypatch.setattr(meter.ballistics, "feed", spy)
            for index in range(500):
                on.client.deliver_stats(in_peak_dbfs=-3.0 if index == 250 else -50.0, load=1.4 if index == 250 else 0.1)
            assert drawn == []
            await on.update()
            assert drawn == [-3.0]
            assert max(on.app.query_one("#load", History).columns) == pytest.approx(1.4)

    play(scene)


def test_a_loss_is_marked_with_a_sign_and_its_age() -> None:
    async def scene() -> None:
        async with stage() as on:
            await on.pilot.press("e")
            on.client.deliver_stats(late_blocks=1)
            await on.update()
            on.clock.now_s += 5.0
            on.client.deliver_stats(late_blocks=1)
            await on.update()
            assert "▲ late 1 (5 s ago)" in on.text("#lost")
            line = on.text("#counters").splitlines()[0]
            assert "▲ late blocks" in line
            assert "5 s ago" in line
            on.clock.now_s += 60.0
            on.client.deliver_stats(late_blocks=1, output_xruns=1)
            await on.update()
            assert "▲ xruns out 1 (just now)  • late 1 (1 min 05 s ago)" in on.text("#lost")
            assert "• late blocks" in on.text("#counters")

    play(scene)


@pytest.mark.parametrize("size", [(80, 24), (80, 40), (100, 30), (120, 24), (120, 40), (160, 45), (200, 60)])
def test_every_widget_lies_within_the_screen(size: tuple[int, int]) -> None:
    async def scene() -> None:
        async with stage((80, 24)) as on:
            await on.pilot.resize_terminal(*size)
            await on.pilot.pause()
            await on.update()
            whole = on.app.screen.region
            assert (whole.width, whole.height) == size
            for kind in (StateBanner, LevelMeter, NoteDisplay, LatencyBar, History, Counters, Widget):
                for widget in on.app.screen.query(kind).results(kind):
                    if widget.display and widget.region.area:
                        assert whole.contains_region(widget.region), f"{widget!r} at {widget.region}"
            assert on.app.screen.max_scroll_y == 0
            for words in ("nothing lost", "5 out 5.4", "of 40 ms", "rms_mix", "? help"):
                assert words in on.text(), words
            await on.pilot.press("e")
            assert "callback gap" in on.text("#counters")

    play(scene)


def test_a_tiny_terminal_scrolls_and_does_not_crash() -> None:
    async def scene() -> None:
        async with stage((20, 6)) as on:
            await on.update()
            await on.pilot.resize_terminal(1, 1)
            await on.update()

    play(scene)


def test_absurd_numbers_and_texts_are_drawn_without_a_crash() -> None:
    async def scene() -> None:
        async with stage() as on:
            huge = ("in_peak_dbfs", "f0_hz", "latency_total_ms", "load", "load_p95", "callback_gap_max_ms", "uptime_s",
                    "record_s", "gpu_util", "gpu_memory_mb", "gpu_memory_total_mb", "encode_ms")  # fmt: skip
            texts = {"voice": "x\x1b[2J" + "y" * 500, "device": "\n\n", "state": ""}
            negative = {"out_peak_dbfs": -3e38, "latency_block_ms": -3e38, "ring_fill": -3e38, "rate_hz": -1}
            on.client.deliver_stats(**dict.fromkeys(huge, 3e38), **texts, **negative, late_blocks=2**31 - 1, in_clips=2**31 - 1)
            await on.update()
            on.client.deliver_stats(f0_hz=1e-38, in_clips=-5)
            await on.update()
            on.client.deliver_list("/voice/list", "[bold]x", "\x1b[2J", "w" * 500)
            on.client.deliver("/log", 1, "[/]", "[link=x]" + "y\n" * 300)
            on.client.deliver_stats(f0_method="[/]", latency_preset="[b", speakers=2**31 - 1, speaker=-7, loading="[x]")
            for key in ("v", "l", "e", "s", "k"):
                await on.pilot.press(key)
                await on.update()
            assert "\x1b" not in on.text()

    play(scene)
