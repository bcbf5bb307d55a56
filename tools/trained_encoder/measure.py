"""Measure what streaming does to the words: phone errors, unit distance and cost, by way, block and lookahead.

    measure.py CHECKPOINT CLIPS RESULTS.jsonl --clips 24
    table.py RESULTS.jsonl

Of speakers held out of the training. Each clip is heard after LEAD_IN_S of the same speaker, as in a conversation; its own part
is counted. Adds a line for each way to RESULTS; those that it has already are left out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from clips import Clip, held_out_speakers, is_held_out, load_clip
from network import Finished, load_final
from numpy.typing import NDArray
from phones import UNKNOWN, best_phones, edit_distance
from streams import Heard, Way, hear
from torch import Tensor

LEAD_IN_S = 4.0
TAIL_S = 0.5
"""Of faint noise, so that every way has finished the clip."""
CONTEXT_MS = 2000
"""Of the ways that are measured at several blocks and lookaheads."""


@dataclass
class Score:
    """Clip by clip. errors and said: phones, by the best path; right and known: units whose phone is right, and all whose phone
    is known; same: units for which the phone is offline's, of units. noise, signal: sums of squares of the difference to
    offline, and of offline. block_ms: of all blocks, processor time."""

    errors: list[int] = field(default_factory=list)
    said: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    same: list[int] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)
    signal: list[float] = field(default_factory=list)
    block_ms: float = 0.0


def ways() -> list[Way]:
    """Return the ways to measure, the usual block and lookahead first."""
    usual = {"block_ms": 140, "lookahead_ms": 100}
    found = [Way("remembered", **usual, context_ms=CONTEXT_MS, revised_ms=ms) for ms in (0, 200)] + [Way("upstream", **usual)]
    found += [Way("remembered", **usual, context_ms=1000, revised_ms=ms) for ms in (0, 200)]
    found += [Way("window", **usual, context_ms=1000), Way("remembered", **usual, context_ms=CONTEXT_MS, revised_ms=1000)]
    found += [Way("window", **usual, context_ms=2740), Way("remembered", **usual, context_ms=3000)]
    found += [Way("remembered", **usual, context_ms=CONTEXT_MS, revised_ms=400), Way("remembered", **usual, context_ms=500)]
    found += [Way("front end streamed", 140, 100)]
    for block_ms, ahead_ms in ((140, 60), (40, 100), (140, 160), (200, 100)):
        found += [Way("remembered", block_ms, ahead_ms, CONTEXT_MS, ms) for ms in (0, 200)]
        found += [Way("upstream", block_ms, ahead_ms), Way("window", block_ms, ahead_ms, 1000)]
    return found


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
    score, spent_ms = Score(), []
    for index, expected in offline.items():
        clip = clips[index]
        audio, first = with_lead_in(clips, index)
        heard = hear(finished.encoder, way, audio) if way.block_ms else Heard(expected)
        last = first + len(clip.labels)
        add(score, finished, heard.units[first:last], expected[first:last], clip)
        spent_ms += heard.block_ms
    score.block_ms = float(np.median(spent_ms)) if spent_ms else 0.0
    return score


def add(score: Score, finished: Finished, units: Tensor, offline: Tensor, clip: Clip) -> None:
    offline = offline[: len(units)]
    logs = finished.frame(units).log_softmax(-1).numpy()
    score.errors.append(edit_distance([int(c) for c in clip.said], best_phones(logs)))
    score.said.append(len(clip.said))
    phones, expected = logs.argmax(-1), finished.frame(offline).argmax(-1).numpy()
    labels = clip.labels[: len(phones)]
    score.right.append(int((phones == labels).sum()))
    score.known.append(int((labels != UNKNOWN).sum()))
    score.same.append(int((phones == expected).sum()))
    score.units.append(len(phones))
    score.noise.append(float((units - offline).square().sum()))
    score.signal.append(float((offline - offline.mean(0)).square().sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--clips", dest="count", type=int, default=24)
    parser.add_argument("--ways", type=int, default=100, help="only the first of them")
    parser.add_argument("--part", default="0/1", help="K/N: every N-th way from the K-th on, with RESULTS of its own")
    args = parser.parse_args()
    torch.set_num_threads(1)
    finished = load_final(args.checkpoint)
    speakers = held_out_speakers(args.clips)
    clips = [load_clip(path) for path in sorted(args.clips.glob("*/*.npz")) if is_held_out(path, speakers)]
    tested = choose(clips, args.count)
    seconds = sum(len(clips[i].audio) for i in tested) / 16000
    print(f"{len(tested)} clips ({seconds:.0f} s) of {len({clips[i].speaker for i in tested})} speakers", flush=True)
    expected = {index: hear(finished.encoder, Way("offline"), with_lead_in(clips, index)[0]).units for index in tested}
    part, parts = map(int, args.part.split("/"))
    done = [Way(**json.loads(line)["way"]) for line in args.results.open()] if args.results.exists() else []
    for way in [Way("offline"), *ways()[: args.ways][part::parts]]:
        if way in done:
            continue
        score = measure(finished, clips, expected, way)
        with args.results.open("a") as lines:
            lines.write(json.dumps({"way": asdict(way), "score": asdict(score)}) + "\n")
        print(f"{way}: {100 * sum(score.right) / sum(score.known):.1f} % right", flush=True)


if __name__ == "__main__":
    main()
