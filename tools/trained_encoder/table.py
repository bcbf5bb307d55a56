"""Print what measure.py found as a table.

    table.py RESULTS.jsonl... [--against remembered,140,100,1000,0]

Several files: parts of one measurement. Differences are paired, clip by clip, and stand with their standard errors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streams import Way

Found = dict[str, Any]


def ratio(count: NDArray[np.floating], of: NDArray[np.floating]) -> tuple[float, float]:
    """Return sum / sum in percent and its standard error, clips being independent (delta method)."""
    rate = count.sum() / of.sum()
    spread = np.std(count - rate * of, ddof=1) * len(of) ** 0.5 / of.sum() if len(of) > 1 else np.nan
    return 100 * float(rate), 100 * float(spread)


def values(found: Found, name: str) -> NDArray[np.floating]:
    return np.array(found[name], float)


def difference(found: Found, other: Found, name: str, of: str) -> str:
    return "{:+.1f} ± {:.1f}".format(*ratio(values(found, name) - values(other, name), values(found, of)))


def named(way: Way) -> str:
    again = f", the last {way.revised_ms} ms again" if way.revised_ms else ""
    context = {"upstream": "2500 ms + block", "offline": "all", "front end streamed": "all"}.get(way.name, f"{way.context_ms} ms")
    sizes = f"{way.block_ms} ms | {way.lookahead_ms} ms" if way.block_ms else "- | -"
    return f"{way.name}{again} | {sizes} | {context}"


def row(way: Way, found: Found, offline: Found, base: Found) -> str:
    right, error = ratio(values(found, "right"), values(found, "known"))
    phones, phones_error = ratio(values(found, "errors"), values(found, "said"))
    same, _ = ratio(values(found, "same"), values(found, "units"))
    distance_db = 10 * np.log10(sum(found["signal"]) / max(sum(found["noise"]), 1e-20))
    distance = "" if way.name == "offline" else f"{distance_db:.1f} dB"
    cost = f"{found['block_ms']:.1f} ms" if found["block_ms"] else ""
    cells = [
        named(way),
        f"{right:.1f} ± {error:.1f} %",
        difference(found, offline, "right", "known"),
        difference(found, base, "right", "known"),
        f"{same:.1f} %",
        f"{phones:.1f} ± {phones_error:.1f} %",
        difference(found, offline, "errors", "said"),
        difference(found, base, "errors", "said"),
        distance,
        cost,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--against", default="remembered,140,100,1000,0", help="way, block, lookahead, context, revised; ms")
    args = parser.parse_args()
    name, *sizes = args.against.split(",")
    base = Way(name, *map(int, sizes))
    found: dict[Way, Found] = {}
    for path in args.results:
        for line in path.read_text().splitlines():
            one = json.loads(line)
            found[Way(**one["way"])] = one["score"]
    print(f"| way | block | lookahead | context | right | to offline | to {base.name} | as offline | phone errors | to offline | "
          f"to {base.name} | distance | a block |")  # fmt: skip
    print("|---|" + "--:|" * 12)
    order = sorted(found, key=lambda way: (way.block_ms != 0, way.block_ms != 140, way.lookahead_ms != 100, *vars(way).values()))
    for way in order:
        print(row(way, found[way], found[Way("offline")], found[base]))


if __name__ == "__main__":
    main()
