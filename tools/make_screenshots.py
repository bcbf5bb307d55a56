"""Write the manual's pictures of rvcctl, from the demo in frozen time: `tools/make_screenshots.py [FOLDER]` (docs)."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rvcctl.app import RvcctlApp
from rvcctl.demo import PUSH_HZ, DemoClient


@dataclass(frozen=True)
class Shot:
    """One picture. size: columns and rows. sings_s: how long the demo has run before. keys: pressed at the end, in order."""

    name: str
    size: tuple[int, int]
    sings_s: float
    keys: tuple[str, ...] = ()


SHOTS: tuple[Shot, ...] = (
    Shot("rvcctl", (124, 38), 24.0, ("right_square_bracket", "right_square_bracket", "2")),
    Shot("rvcctl-small", (80, 24), 61.0, ("r", "v", "down", "down")),
    Shot("rvcctl-panic", (80, 24), 9.0, ("e", "space")),
)
AFTER_KEYS_S = 1.2
"""Time for what the keys began to show."""


class FrozenClock:
    """Seconds that move only when told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def take(shot: Shot) -> str:
    """Return one picture as SVG."""
    clock = FrozenClock()
    client = DemoClient(clock, push_hz=0)
    app = RvcctlApp(client, clock=clock, refresh_hz=0)

    def sing(seconds: float) -> None:
        for tick in range(round(seconds * PUSH_HZ)):
            clock.now_s += 1.0 / PUSH_HZ
            client.advance()
            app.show_levels()
            if tick % 7 == 0:
                app.show_tables()

    async with app.run_test(size=shot.size) as pilot:
        await pilot.pause()
        sing(shot.sings_s)
        await pilot.press(*shot.keys)
        sing(AFTER_KEYS_S)
        app.show_tables()
        await pilot.pause()
        return app.export_screenshot(title="rvcctl")


def main(folder: Path) -> None:
    """Write every picture into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for shot in SHOTS:
        path = folder / f"{shot.name}.svg"
        path.write_text(asyncio.run(take(shot)), "utf-8")
        print(f"{path}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs")
