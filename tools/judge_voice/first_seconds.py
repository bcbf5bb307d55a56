"""How many words the first seconds cost somebody whom the voice has not heard yet. Prints a Markdown table.

    first_seconds.py OUT FOLDER... [--clips 24] [--voice FILE.pth] [--encoder NAME=FILE]

Each clip is converted twice: cold, in a fresh stream, and warm, behind six seconds of another clip of its reader in the same
stream. Both are cut where the source is quietest between 2.6 and 3.6 s, so that no word is cut, and end at 7 s. Whisper base
writes down what is said in each part of the source. The difference is paired. OUT/first_seconds.jsonl has a row for each
clip; a second call goes on where the first stopped. Needs the extra eval.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from clips import reader_of, shuffled
from live import Audio, Listener, Live, at_16k
from results import Results, Row
from voice_config import add_options, judged_voice

from rvcd.evaluation.conversion import read_clip
from rvcd.evaluation.measures import RATE_HZ
from rvcd.evaluation.standard_errors import standard_error

CUT_FROM_S, CUT_TO_S, LONGEST_S, BEFORE_S = 2.6, 3.6, 7.0, 6.0
PAUSE_S = 0.4
QUIET_S = 0.08
PARTS = ("first", "rest")
WAYS = ("source", "cold", "warm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--clips", type=int, default=24)
    add_options(parser)
    arguments = parser.parse_args()
    judged = judged_voice(arguments, arguments.out)
    results = Results(arguments.out / "first_seconds.jsonl", judged.mark)
    live, listener = Live(judged), Listener()
    pairs = pairs_of(shuffled(arguments.folders))[: arguments.clips]
    for number, (clip, before) in enumerate(pairs):
        if clip.name not in results:
            results.add(clip.name, compare(live, listener, read_clip(clip), read_clip(before)))
            print(f"# {number + 1} of {len(pairs)}: {clip.name}", flush=True)
    names = {clip.name for clip, _ in pairs}
    made = table(live.name, [row for row in results.rows if row["key"] in names])
    (arguments.out / "first_seconds.md").write_text(made + "\n")
    print(made)


def pairs_of(clips: list[Path]) -> list[tuple[Path, Path]]:
    """Return each clip that is long enough with another one of the same reader, as long as there are."""
    pairs = []
    for clip in clips:
        others = [other for other in clips if reader_of(other.name) == reader_of(clip.name) and other != clip]
        before = next((other for other in others if len(read_clip(other)) >= BEFORE_S * RATE_HZ), None)
        if before and len(read_clip(clip)) >= (CUT_TO_S + 1) * RATE_HZ:
            pairs.append((clip, before))
    return pairs


def compare(live: Live, listener: Listener, audio: Audio, before: Audio) -> Row:
    audio, before = audio[: int(LONGEST_S * RATE_HZ)], before[: int(BEFORE_S * RATE_HZ)]
    semitones = live.semitones_for(audio)
    cold = live.convert([audio], semitones)[0]
    warm = live.convert([before, np.zeros(int(PAUSE_S * RATE_HZ), np.float32), audio], semitones)[2]
    cut = quietest(audio)
    row: Row = {"cut_s": cut / RATE_HZ}
    heard = {"source": audio, "cold": at_16k(cold), "warm": at_16k(warm)}
    for part, where in zip(PARTS, (slice(0, cut), slice(cut, None)), strict=True):
        said = listener.said(audio[where])
        row[f"{part}_words"] = len(said)
        row |= {f"{part}_{way}": listener.errors(said, heard[way][where]) for way in WAYS}
    return row


def quietest(audio: Audio) -> int:
    """Return the sample in the middle of the quietest QUIET_S within the bounds."""
    size, first = int(QUIET_S * RATE_HZ), int(CUT_FROM_S * RATE_HZ)
    power = np.convolve(np.square(audio[first : int(CUT_TO_S * RATE_HZ)], dtype=np.float64), np.ones(size), "valid")
    return first + int(np.argmin(power)) + size // 2


def table(name: str, rows: list[Row]) -> str:
    cut_s = np.mean([row["cut_s"] for row in rows])
    lines = [
        f"| {name}, {len(rows)} clips | words | source | cold | warm | cold - warm, points | ± |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for part, label in zip(PARTS, (f"the first {cut_s:.1f} s", f"from there to {LONGEST_S:g} s"), strict=True):
        words, *errors = (np.array([row[f"{part}_{one}"] for row in rows], np.float64) for one in ("words", *WAYS))

        def points(drawn, words=words, errors=errors) -> float:
            return 100 * float((errors[1] - errors[2])[drawn].sum() / max(1.0, words[drawn].sum()))

        rates = [f"{100 * one.sum() / max(1.0, words.sum()):.1f} %" for one in errors]
        cells = [
            label,
            f"{words.sum():.0f}",
            *rates,
            f"{points(np.arange(len(rows))):+.1f}",
            f"{standard_error(len(rows), points):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
