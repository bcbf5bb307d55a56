"""Write the two examples of docs/audio: a sentence of rvcd's own demo speech, and what a voice makes of it, live.

    examples.py OUT [--turn 1] [--skip 0.9] [--voice FILE.pth] [--encoder NAME=FILE]

before.flac is the turn as it lies in rvcd/data/demo_speech.flac (flite's voices speak there, no person). after.flac is the same,
streamed with the preset, at the target's register, aligned, nothing else done to it. What it is like is printed, if the extra
eval is there, so that an example that is better or worse than most is noticed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr
from live import LIVE_RATE_HZ, Audio, Live, at_16k
from voice_config import add_options, judged_voice

from rvcd.errors import MissingExtraError
from rvcd.evaluation.conversion import read_clip
from rvcd.evaluation.measures import RATE_HZ, at_level

DEMO = Path(__file__).parents[2] / "rvcd" / "data" / "demo_speech.flac"
PAUSE_S, QUIET = 0.5, 0.01
AROUND_S = 0.05
KEPT_BITS = 13
"""As in the demo speech: what is below is noise, and would make FLAC half as large again."""
MOST_BYTES = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--turn", type=int, default=1, help="0: a high voice's first turn, 1: a deep voice's")
    parser.add_argument("--skip", type=float, default=0.9, help="seconds of the turn to leave out, here its first sentence")
    parser.add_argument("--speech", type=Path, default=DEMO)
    add_options(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        live = Live(judged_voice(arguments, Path(folder)))
        before = turns(read_clip(arguments.speech))[arguments.turn][int(arguments.skip * RATE_HZ) :]
        semitones = live.semitones_for(before)
        made = live.convert([before], semitones)[0]
    arguments.out.mkdir(parents=True, exist_ok=True)
    sizes = [write(arguments.out / "before.flac", before, RATE_HZ)]
    after = soxr.resample(made, LIVE_RATE_HZ, live.rate_hz).astype(np.float32)
    sizes.append(write(arguments.out / "after.flac", after, live.rate_hz))
    print(f"{live.name}, {semitones:+g} semitones, {len(before) / RATE_HZ:.1f} s: {sizes[0]} and {sizes[1]} bytes")
    if sum(sizes) > MOST_BYTES:
        raise SystemExit(f"{arguments.out}: {sum(sizes)} bytes are more than {MOST_BYTES}; take a shorter turn")
    say_what_it_is_like(before, at_16k(made))


def turns(audio: Audio) -> list[Audio]:
    """Return what is between pauses of at least PAUSE_S, each with a little of its silence."""
    size = int(0.02 * RATE_HZ)
    loud = np.abs(audio[: len(audio) // size * size].reshape(-1, size)).max(axis=1) > QUIET
    at = np.flatnonzero(loud)
    breaks = np.flatnonzero(np.diff(at) > PAUSE_S * RATE_HZ / size)
    firsts, lasts = at[np.concatenate(([0], breaks + 1))], at[np.concatenate((breaks, [len(at) - 1]))]
    around = int(AROUND_S * RATE_HZ)
    return [audio[max(0, a * size - around) : (b + 1) * size + around] for a, b in zip(firsts, lasts, strict=True)]


def write(path: Path, audio: Audio, rate_hz: int) -> int:
    scale = 2 ** (KEPT_BITS - 1)
    rounded = np.clip(np.round(audio * scale) / scale, -1, 1 - 1 / scale)
    soundfile.write(path, rounded, rate_hz, subtype="PCM_16", format="FLAC", compression_level=1.0)
    return path.stat().st_size


def say_what_it_is_like(before: Audio, after: Audio) -> None:
    from rvcd.evaluation.judges import NaturalnessJudge, WordJudge

    try:
        natural, words = NaturalnessJudge(), WordJudge(threads=1)
    except MissingExtraError as error:
        print(error)
        return
    for name, audio in (("before", before), ("after", after)):
        print(f"{name}: MOS {natural.score(at_level(audio)):.2f}, heard as: {words.text(at_level(audio))}")


if __name__ == "__main__":
    main()
