"""Measure what streaming does to the words: phone errors, unit distance and cost, by way, block and lookahead.

    measure.py CHECKPOINT CLIPS --clips 24

Of speakers held out of the training. Each clip is heard after LEAD_IN_S of the same speaker, as in a conversation; its own part
is counted. Prints Markdown.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from clips import Clip, held_out_speakers, is_held_out, load_clip
from network import Finished, load_final
from numpy.typing import NDArray
from phones import SILENCE, UNKNOWN, edit_distance
from streams import Heard, Way, hear
from torch import Tensor

LEAD_IN_S = 4.0
LEAST_UNITS = 2
TAIL_S = 0.5
"""Of faint noise, so that every way has finished the clip."""
USUAL = Way("remembered", 140, 100, 1000)
BLOCKS_MS = (40, 140, 200)
ALL = ("upstream", "remembered", "window")
LOOKAHEADS_MS = (20, 60, 100, 160, 260)
CONTEXTS_MS = (500, 1000, 2000)
REVISED_MS = (200, 1000)


@dataclass
class Score:
    """errors and said: phones, clip by clip; right and known: frames whose phone is right, and all whose phone is known; same:
    frames for which the phone is offline's. noise, signal: sums of squares against offline. block_ms: of all blocks."""

    errors: list[int] = field(default_factory=list)
    said: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    same: list[float] = field(default_factory=list)
    noise: float = 0.0
    signal: float = 0.0
    cosines: list[float] = field(default_factory=list)
    block_ms: list[float] = field(default_factory=list)

    def rate(self) -> tuple[float, float]:
        """Return the error rate and its standard error over the clips, in percent."""
        return ratio(np.array(self.errors, float), np.array(self.said, float))


def stretches(scores: Tensor) -> list[int]:
    """(N, classes) shares of each frame -> phones that last for LEAST_UNITS at least, of scores smoothed over three units."""
    padded = torch.cat((scores[:1], scores, scores[-1:]))
    best = (0.25 * padded[:-2] + 0.5 * scores + 0.25 * padded[2:]).argmax(-1).numpy()
    ends = np.flatnonzero(np.r_[best[1:] != best[:-1], True])
    lengths = np.diff(np.r_[-1, ends])
    return [int(best[end]) for end, length in zip(ends, lengths, strict=True) if length >= LEAST_UNITS and best[end] != SILENCE]


def ratio(errors: NDArray[np.floating], said: NDArray[np.floating]) -> tuple[float, float]:
    """Return sum / sum in percent and its standard error, clips being independent (delta method)."""
    rate = errors.sum() / said.sum()
    spread = np.std(errors - rate * said, ddof=1) * len(said) ** 0.5 / said.sum() if len(said) > 1 else np.nan
    return 100 * float(rate), 100 * float(spread)


def ways() -> list[Way]:
    grid = [Way(name, 140, ahead) for ahead in LOOKAHEADS_MS for name in ALL]
    grid += [Way(name, block, 100) for block in BLOCKS_MS if block != 140 for name in ALL]
    grid += [Way(name, 140, 100, ms) for ms in CONTEXTS_MS if ms != 1000 for name in ("remembered", "window")]
    grid += [Way("revised", 140, 100, 1000 + ms, ms) for ms in REVISED_MS]
    return [Way("front end streamed", 140, 100), *grid]


def choose(clips: list[Clip], count: int) -> list[int]:
    """Return numbers of clips, spread over the speakers, in which it is known what is said, and when."""
    fit = [i for i, clip in enumerate(clips) if clip.sure and clip.aligned and len(clip.audio) > 4 * 16000]
    return [fit[i] for i in np.unique(np.linspace(0, len(fit) - 1, count).round().astype(int))]


def with_lead_in(clips: list[Clip], index: int) -> tuple[NDArray[np.float32], int]:
    """Return what a stream hears, and how many units of it come before the clip."""
    clip, dice = clips[index], np.random.default_rng(index)
    before = [other for other in clips[:index][::-1] + clips[index + 1 :] if other.speaker == clip.speaker][:1]
    wanted = int(LEAD_IN_S * 16000)
    lead = before[0].audio[-wanted:].numpy() if before else clip.audio[:0].numpy()
    lead = lead[len(lead) % 320 :]
    tail = 3.0 * dice.standard_normal(int(TAIL_S * 16000))
    return np.concatenate((lead, clip.audio.numpy(), tail)).astype(np.float32) / 32768, len(lead) // 320


def measure(finished: Finished, clips: list[Clip], offline: dict[int, Tensor], way: Way) -> Score:
    """offline: units of each tested clip with its lead-in, by its number."""
    score = Score()
    for index, expected in offline.items():
        clip = clips[index]
        audio, first = with_lead_in(clips, index)
        heard = hear(finished.encoder, way, audio) if way.block_ms else Heard(expected)
        last = first + len(clip.labels)
        add(score, finished, heard.units[first:last], expected[first:last], clip)
        score.block_ms += heard.block_ms
    return score


def add(score: Score, finished: Finished, units: Tensor, offline: Tensor, clip: Clip) -> None:
    offline = offline[: len(units)]
    scores = finished.frame(units).softmax(-1)
    heard = stretches(scores)
    score.errors.append(edit_distance([int(c) for c in clip.said], heard))
    score.said.append(len(clip.said))
    phones, expected = scores.argmax(-1).numpy(), finished.frame(offline).argmax(-1).numpy()
    labels = clip.labels[: len(phones)]
    score.right.append(int((phones == labels).sum()))
    score.known.append(int((labels != UNKNOWN).sum()))
    score.same.append(float((phones == expected).mean()))
    score.noise += float((units - offline).square().sum())
    score.signal += float((offline - offline.mean(0)).square().sum())
    score.cosines.append(float(torch.cosine_similarity(units, offline).mean()))


def row(way: Way, score: Score, offline: Score) -> str:
    rate, error = score.rate()
    more, spread = ratio(np.array(score.errors, float) - np.array(offline.errors, float), np.array(score.said, float))
    right, known = np.array(score.right, float), np.array(score.known, float)
    frames, frames_error = ratio(right, known)
    lost, lost_spread = ratio(np.array(offline.right, float) - right, known)
    distance_db = 10 * np.log10(score.signal / max(score.noise, 1e-20))
    cost = f"{np.median(score.block_ms):.1f} ms" if score.block_ms else ""
    sizes = f"{way.block_ms} ms | {way.lookahead_ms} ms" if way.block_ms else "- | -"
    context = {"upstream": "2500 ms + block", "offline": "all", "front end streamed": "all"}.get(way.name, f"{way.context_ms} ms")
    name = f"{way.name}, {way.revised_ms} ms" if way.revised_ms else way.name
    return (
        f"| {name} | {sizes} | {context} | {frames:.1f} ± {frames_error:.1f} % | {-lost:+.1f} ± {lost_spread:.1f} | "
        f"{100 * np.mean(score.same):.1f} % | {rate:.1f} ± {error:.1f} % | {more:+.1f} ± {spread:.1f} | {distance_db:.1f} dB | "
        f"{np.mean(score.cosines):.3f} | {cost} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--clips", dest="count", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", default="0/1", help="K/N: every N-th way from the K-th on, for one process a core")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    finished = load_final(args.checkpoint)
    speakers = held_out_speakers(args.clips)
    clips = [load_clip(path) for path in sorted(args.clips.glob("*/*.npz")) if is_held_out(path, speakers)]
    tested = choose(clips, args.count)
    seconds = sum(len(clips[i].audio) for i in tested) / 16000
    print(f"{len(tested)} clips ({seconds:.0f} s) of {len({clips[i].speaker for i in tested})} speakers\n", flush=True)
    print("| way | block | lookahead | context | frames right | to offline | as offline | phone errors | to offline | "
          "signal to difference | cosine | a block |")  # fmt: skip
    print("|---|" + "--:|" * 11, flush=True)
    expected = {index: hear(finished.encoder, Way("offline"), with_lead_in(clips, index)[0]).units for index in tested}
    offline = measure(finished, clips, expected, Way("offline"))
    print(row(Way("offline"), offline, offline), flush=True)
    part, parts = map(int, args.part.split("/"))
    for way in ways()[part::parts]:
        print(row(way, measure(finished, clips, expected, way), offline), flush=True)


if __name__ == "__main__":
    main()
