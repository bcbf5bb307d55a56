"""The screen under test: frozen time, no timers, and what can be read on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from textual.pilot import Pilot

from rvcctl.app import RvcctlApp
from rvcctl.demo import PUSH_HZ, DemoClient
from tests.rvcctl.fake_client import FakeClient, FrozenClock


@dataclass
class Stage:
    """An app that stands still: update() is one tick of both its clocks."""

    app: RvcctlApp
    clock: FrozenClock
    pilot: Pilot[None]

    async def update(self) -> None:
        """Bring the screen up to date and wait until it is drawn."""
        self.app.show_levels()
        self.app.show_note()
        self.app.show_tables()
        await self.pilot.pause()

    def lines(self) -> list[str]:
        """Return the rows of the screen as text."""
        return ["".join(segment.text for segment in strip) for strip in self.app.screen._compositor.render_strips()]

    def text(self, selector: str | None = None) -> str:
        """Return what is on the screen, or in the region of one widget."""
        if selector is None:
            return "\n".join(self.lines())
        region = self.app.screen.query_one(selector).region
        return "\n".join(line[region.x : region.right] for line in self.lines()[region.y : region.bottom])

    async def shows(self, words: str) -> None:
        """Wait until some words are on the screen: a message to the user takes a few steps to get there."""
        for _ in range(6000):
            if words in self.text():
                return
            await self.pilot.pause(0.02)
        raise AssertionError(f"{words!r} did not come to the screen:\n{self.text()}")


@dataclass
class FakeStage(Stage):
    """With a client whose messages the test writes itself."""

    client: FakeClient


@dataclass
class DemoStage(Stage):
    """With the demo's daemon."""

    client: DemoClient

    async def play(self, seconds: float) -> None:
        """Let time pass at the pace of the demo."""
        for step in range(round(seconds * PUSH_HZ)):
            self.clock.now_s += 1.0 / PUSH_HZ
            self.client.advance()
            self.app.show_levels()
            self.app.show_note()
            if step % 7 == 0:
                self.app.show_tables()
        await self.update()

    async def press(self, *keys: str) -> None:
        """Press keys, a moment apart."""
        for key in keys:
            await self.pilot.press(key)
            await self.play(2.0 / PUSH_HZ)


@asynccontextmanager
async def stage(size: tuple[int, int] = (80, 24), *, connected: bool = True) -> AsyncIterator[FakeStage]:
    """Open the screen; unless connected is False, a healthy daemon has told its state."""
    clock = FrozenClock()
    client = FakeClient(clock)
    app = RvcctlApp(client, clock=clock, refresh_hz=0)
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        staged = FakeStage(app, clock, pilot, client)
        if connected:
            client.deliver("/pitch", 2.0)
            client.deliver_list("/voice/list", "demo", "alto", "bass")
            client.deliver_list("/preset/list", "Deep", "Bright")
            client.deliver_stats()
        await staged.update()
        yield staged


@asynccontextmanager
async def demo_stage(size: tuple[int, int] = (80, 24)) -> AsyncIterator[DemoStage]:
    """Open the screen before the demo's daemon, which has just started."""
    clock = FrozenClock()
    client = DemoClient(clock, push_hz=0)
    app = RvcctlApp(client, clock=clock, refresh_hz=0)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield DemoStage(app, clock, pilot, client)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene to its end."""
    asyncio.run(scene())  # type: ignore[arg-type]
