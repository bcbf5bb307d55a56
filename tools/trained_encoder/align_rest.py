"""Say which phone is spoken when, with an encoder that is half trained, in clips of which only the phones are known.

    align_rest.py OUT/final.pt WORDS CLIPS

WORDS: what `align_phones.py --words` made. Clips that CLIPS has already are left alone, and so are the readers that are held
out: an encoder must not be measured by what it said itself. PocketSphinx finds no phones in two thirds of the clips of 7 s and
more, though it finds the words.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from clips import HELD_OUT_OF, is_held_out, load_clip, speakers_held_out
from network import Finished, load_final
from numpy.typing import NDArray
from phones import SILENCE
from torch import Tensor

SILENCE_COST = 2.0
"""Of a pause before a phone, as a difference of logarithms: pauses within words are rare."""
LEAST_MEAN = -2.0
"""Mean logarithm of the probability of the phones found: below it the transcript is not what is said."""


def best_path(logs: NDArray[np.floating], said: NDArray[np.integer]) -> NDArray[np.int8] | None:
    """logs (N, CLASSES) of each unit, said (M,) phones in order, silence between any two -> (N,) classes (Viterbi).

    None where there are more phones than units.
    """
    if len(said) > len(logs):
        return None
    states = np.zeros(2 * len(said) + 1, np.int64)
    states[1::2] = said
    own = logs[:, states]
    entering = np.where(states == SILENCE, -SILENCE_COST, 0.0)
    passing = np.where(states == SILENCE, -np.inf, 0.0)  # from phone to phone, without a pause
    score = np.full(len(states), -np.inf)
    score[:2] = own[0, :2]
    came = np.zeros(own.shape, np.int8)
    ways = np.full((3, len(states)), -np.inf)
    for n in range(1, len(own)):
        ways[0] = score
        ways[1, 1:] = score[:-1] + entering[1:]
        ways[2, 2:] = score[:-2] + passing[2:]
        came[n] = ways.argmax(0)
        score = ways.max(0) + own[n]
    at = len(states) - 1 if score[-1] > score[-2] else len(states) - 2
    if not np.isfinite(score[at]):
        return None
    path = np.empty(len(own), np.int64)
    for n in range(len(own) - 1, -1, -1):
        path[n] = at
        at -= int(came[n, at])
    return states[path].astype(np.int8)


@torch.no_grad()
def logs_of(finished: Finished, audio: Tensor) -> NDArray[np.floating]:
    """audio (samples,) int16 -> (N, CLASSES)."""
    with torch.autocast("cpu", torch.bfloat16):
        units = finished.encoder.encode(finished.encoder.front_end(audio[None].float() / 32768))[0]
    return finished.frame(units.float()).log_softmax(-1).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("words", type=Path)
    parser.add_argument("clips", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    finished = load_final(args.checkpoint)
    held_out = speakers_held_out(path.stem for path in (args.words / HELD_OUT_OF).glob("*.npz"))
    done, unfit = 0, 0
    for path in sorted(args.words.glob("*/*.npz")):
        out = args.clips / path.parent.name / path.name
        if out.exists() or is_held_out(path, held_out):
            continue
        clip = load_clip(path)
        logs = logs_of(finished, clip.audio)
        found = best_path(logs, clip.said)
        if found is None or logs[np.arange(len(found)), found].mean() < LEAST_MEAN:
            unfit += 1
            continue
        frames = np.pad(found.repeat(2), (0, 2), mode="edge")
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.with_suffix(".part").open("wb") as file:
            np.savez(file, audio=clip.audio.numpy(), frames=frames, said=clip.said, sure=clip.sure, speaker=clip.speaker)
        out.with_suffix(".part").replace(out)
        done += 1
    print(f"{done} clips, {unfit} did not fit what is said to be in them")


if __name__ == "__main__":
    main()
