"""Measure what the front end's norm over time costs in a stream, by what the stream has heard before.

    measure_norm.py CHECKPOINT CLIPS --clips 24

The transformer sees the whole clip, so that nothing but the norm differs from offline. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from clips import Clip, held_out_speakers, is_held_out, load_clip
from measure import Score, add, choose
from network import Finished, load_final
from numpy.typing import NDArray
from table import ratio
from torch import Tensor

from rvcd.engine.units import STATISTICS_MEMORY_S
from rvcd.nets.contentvec import ContentEncoder

ROOM_DB = (-65.0, -50.0)
"""Of full scale: what a microphone hears in a pause."""
Audio = NDArray[np.float32]


def earlier_speech(clips: list[Clip], index: int, seconds: float) -> Audio:
    same = [clip for number, clip in enumerate(clips) if clip.speaker == clips[index].speaker and number != index]
    audio = np.concatenate([clip.audio.numpy() for clip in same[:4]] or [clips[index].audio.numpy()])
    return audio[-int(seconds * 16000) :].astype(np.float32) / 32768


def room(seconds: float, level_db: float, seed: int) -> Audio:
    noise = np.random.default_rng(seed).standard_normal(int(seconds * 16000))
    return (noise * 10 ** (level_db / 20)).astype(np.float32)


def before(kind: str, clips: list[Clip], index: int) -> Audio:
    """Return what the stream has heard, by the table's words."""
    if kind == "nothing":
        return np.zeros(0, np.float32)
    if kind.startswith("room"):
        _, level_db, seconds = kind.split()[:3]
        return room(float(seconds), float(level_db), index)
    other = next(number for number in range(len(clips)) if clips[number].speaker != clips[index].speaker)
    if kind == "the speaker, 1 s":
        return earlier_speech(clips, index, 1.0)
    if kind == "another, 20 dB louder":
        return np.clip(10 * earlier_speech(clips, other, 10.0), -1, 1)
    if kind == "the speaker, then a minute of room":
        return np.concatenate((earlier_speech(clips, index, 10.0), room(60.0, -50.0, index)))
    return earlier_speech(clips, index, 10.0)


KINDS = (
    "the speaker, 10 s", "the speaker, 1 s", "nothing", "another, 20 dB louder", "room -65 2", "room -50 2", "room -50 60",
    "the speaker, then a minute of room",
)  # fmt: skip


def streamed(encoder: ContentEncoder, audio: Audio, block_ms: int, state: object) -> Tensor:
    block, parts, heard = block_ms // 20, [], torch.from_numpy(audio)[None]
    for first in range(0, (len(audio) - 80) // 320, block):
        piece = heard[:, 320 * first : 320 * (first + block) + 80]
        if piece.shape[1] >= 400:
            parts.append(encoder.front_end(piece, state))  # type: ignore[arg-type]
    return torch.cat(parts, dim=1)


def measure(finished: Finished, clips: list[Clip], tested: list[int], kind: str, block_ms: int, memory_s: float) -> Score:
    score, encoder = Score(), finished.encoder
    with torch.inference_mode():
        for index in tested:
            clip = clips[index]
            own = clip.audio.numpy().astype(np.float32) / 32768
            own = own + room(len(own) / 16000, -65.0, index)[: len(own)]
            earlier = before(kind, clips, index)
            earlier = earlier[len(earlier) % 320 :]
            features = streamed(encoder, np.concatenate((earlier, own)), block_ms, encoder.start_front_end(memory_s))[
                :, len(earlier) // 320 :
            ]
            units, offline = (
                encoder.encode(features)[0],
                encoder.units(torch.from_numpy(own)[None], unit_width=encoder.sizes.width)[0],
            )
            add(score, finished, units, offline, clip)
    return score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--clips", dest="count", type=int, default=24)
    parser.add_argument("--memories-s", type=float, nargs="+", default=[STATISTICS_MEMORY_S])
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--blocks-ms", type=int, nargs="+", default=[40, 140])
    args = parser.parse_args()
    torch.set_num_threads(1)
    finished = load_final(args.checkpoint)
    encoder = finished.encoder
    speakers = held_out_speakers(args.clips)
    clips = [load_clip(path) for path in sorted(args.clips.glob("*/*.npz")) if is_held_out(path, speakers)]
    tested = choose(clips, args.count)
    print("| heard before | memory | block | frames right | to offline | phone errors | to offline | signal to difference |")
    print("|---|" + "--:|" * 7, flush=True)
    offline = Score()
    with torch.inference_mode():
        for index in tested:
            own = clips[index].audio.numpy().astype(np.float32) / 32768
            own = own + room(len(own) / 16000, -65.0, index)[: len(own)]
            units = encoder.units(torch.from_numpy(own)[None], unit_width=encoder.sizes.width)[0]
            add(offline, finished, units, units, clips[index])
    right, errors, said, known = (np.array(x, float) for x in (offline.right, offline.errors, offline.said, offline.known))
    print("| (offline) | | | {:.1f} ± {:.1f} % | | {:.1f} ± {:.1f} % | | |".format(*ratio(right, known), *ratio(errors, said)))
    for kind in args.kinds:
        for block_ms, memory_s in itertools.product(args.blocks_ms, args.memories_s):
            score = measure(finished, clips, tested, kind, block_ms, memory_s)
            now_right, now_errors = np.array(score.right, float), np.array(score.errors, float)
            figures = (*ratio(now_right, known), *ratio(now_right - right, known),
                       *ratio(now_errors, said), *ratio(now_errors - errors, said))  # fmt: skip
            distance_db = 10 * np.log10(sum(score.signal) / max(sum(score.noise), 1e-20))
            told = "{:.1f} ± {:.1f} % | {:+.1f} ± {:.1f} | {:.1f} ± {:.1f} % | {:+.1f} ± {:.1f}".format(*figures)
            print(f"| {kind} | {memory_s:g} s | {block_ms} ms | {told} | {distance_db:.1f} dB |", flush=True)


if __name__ == "__main__":
    main()
