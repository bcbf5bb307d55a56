"""Compares the pitch methods as a live stream hears them: errors, voicing, cost, lookahead. Prints tables in Markdown.

    python tools/measure_pitch_methods.py                                         # made vowels: f0 is known
    python tools/measure_pitch_methods.py --voices "CLEAN/*.opus" --noise ESC-10  # people's voices, put together with a known f0
    python tools/measure_pitch_methods.py --speech CLEAN --noise ESC-10           # people as they are
    python tools/measure_pitch_methods.py --cost FILE                             # computing time by length of block

CLEAN: files, folders or quoted patterns, from which --clips recordings are taken, spread evenly over the names. ESC-10: a folder
with recordings of that set; rain, sea, fire, a clock and a helicopter take turns, at every --snr; white noise without it.

--speech: f0 is not known there. A method is held against what the others say offline of the whole clean recording: a frame counts
where at least three quarters of swift, fcpe, pm and harvest, without the one that is judged, call it unvoiced, or agree within
50 cents. What is heard is the stream, noise included. What a method alone is right about counts against it.

Of a method's frames, in percent; wrong: of all frames, those with a wrong voicing or a gross error. gross: voiced in both, f0 off
by more than 20 %. off: by more than 50 cents. octave: within a semitone of one or two octaves off. missed: voiced frames called
unvoiced. invented: unvoiced frames called voiced. cents: median deviation without gross errors. n: frames that count.
Each method runs in rvcd's own tracker, with the blocks and the lookahead of the preset, on one thread.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from pitch_methods.agreement import agreement
from pitch_methods.clip import RATE_HZ, Audio, Floats, evenly, load_noises, with_noise
from pitch_methods.made import made_clips
from pitch_methods.resynthesised import SURE_OF, clips_of
from pitch_methods.scores import Score, difference, percent, range_of

from rvcd.engine.pitch import FRAME_SAMPLES, PitchMethod, PitchTrack, PitchTracker, create_pitch_method
from rvcd.errors import RvcdError

PRESETS = {"low": (4, 8), "balanced": (14, 8), "safe": (20, 10)}
"""Frames of a block, and those known behind a frame when it becomes final."""
METHODS = ("swift", "fcpe", "pm", "harvest", "dio", "yin")
REFEREES = ("swift", "fcpe", "pm", "harvest")
COST_BLOCKS = (4, 10, 14, 20)
SHORTEST_S, COST_S = 1.5, 5.0

Truth = Floats | dict[str, Floats]
"""f0 of each frame; by method where each has referees of its own."""


def streamed(method: PitchMethod, audio: Audio, block_frames: int, settle_frames: int) -> tuple[PitchTrack, list[float]]:
    """Return the final track of a stream, and the processor time of each block in seconds."""
    tracker = PitchTracker(method, lookahead_frames=settle_frames, history_frames=block_frames + settle_frames)
    size = block_frames * FRAME_SAMPLES
    padded = np.concatenate((audio, np.zeros(size + settle_frames * FRAME_SAMPLES, np.float32)))
    parts, began, spent = [], 0, []
    for start in range(0, len(padded) - size + 1, size):
        before = time.process_time()
        tracker.update(padded[start : start + size])
        spent.append(time.process_time() - before)
        if tracker.final_end_frame > began:
            parts.append(tracker.track(began, tracker.final_end_frame - began))
            began = tracker.final_end_frame
    frames = len(audio) // FRAME_SAMPLES
    f0_hz, voiced = (np.concatenate([getattr(part, name) for part in parts])[:frames] for name in ("f0_hz", "voiced"))
    return PitchTrack(f0_hz, voiced), spent


def referees_say(referees: dict[str, PitchMethod], methods: Iterable[str], audio: Audio) -> dict[str, Floats]:
    """Return for each method what the others say of the whole clean recording."""
    tracks = {name: referee.estimate(audio) for name, referee in referees.items()}
    return {name: agreement([track for other, track in tracks.items() if other != name]) for name in methods}


def available(names: Iterable[str], rmvpe: Path | None = None) -> dict[str, PitchMethod]:
    """Return those methods whose packages, or weights, are here. rmvpe: its weights."""
    methods = {}
    for name in names:
        try:
            methods[name] = create_pitch_method(name, model_path=rmvpe)
        except RvcdError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return methods


def heard_clips(options: argparse.Namespace, methods: Iterable[str]) -> Iterator[tuple[str, Audio, Truth]]:
    """Yield (material, audio, truth) of everything that is to be listened to."""
    if not options.voices and not options.speech:
        for one in made_clips():
            yield one.kind, one.audio, one.f0_hz
        return
    noises, referees = load_noises(options.noise), available(REFEREES if options.speech else ())
    recordings = evenly(options.voices or options.speech, options.clips, SHORTEST_S, options.longest)
    for number, audio in enumerate(recordings):
        clean: list[tuple[str, Audio, Truth]]
        if options.voices:
            clean = [(one.kind, one.audio, one.f0_hz) for one in clips_of(audio, number, options.sure_of.split(","))]
        else:
            clean = [(options.name, audio, referees_say(referees, methods, audio))]
        for kind, sound, truth in clean:
            yield kind, sound, truth
            for snr_db in options.snr:
                yield f"{kind}, noise {snr_db:g} dB below", with_noise(sound, noises[number % len(noises)], snr_db), truth
        print(f"{number + 1} of {options.clips}", file=sys.stderr, flush=True)


def print_tables(scores: dict[str, dict[str, list[Score]]]) -> None:
    """scores: by material and method, one for each clip."""
    kinds, names = sorted(scores, key=lambda kind: kind.split(",")[0]), list(next(iter(scores.values())))
    print("\n| material | n | method | wrong | gross | off | octave | missed | invented | cents |\n|" + "---|" * 10)
    for kind in kinds:
        for name, parts in scores[kind].items():
            total = Score.sum(parts)
            print(f"| {kind} | {total.frames} | {name} | {total.row()} |")
    print(f"\nwrong, of all frames, in percent:\n\n| material | clips | {' | '.join(names)} |\n|" + "---|" * (len(names) + 2))
    for kind in kinds:
        totals = [Score.sum(scores[kind][name]) for name in names]
        shares = " | ".join(percent(one.wrong, one.frames) for one in totals)
        print(f"| {kind} | {len(scores[kind][names[0]])} | {shares} |")
    every = {name: by_voice([scores[kind][name] for kind in kinds]) for name in names}
    print(f"\n| method, all material | wrong | 95 % | more than {names[0]} | 95 % |\n|" + "---|" * 5)
    for name, parts in every.items():
        total, (low, high), (more, least, most) = Score.sum(parts), range_of(parts), difference(parts, every[names[0]])
        share = percent(total.wrong, total.frames)
        print(f"| {name} | {share} | {low:.1f}..{high:.1f} | {more:+.1f} | {least:+.1f}..{most:+.1f} |")


def by_voice(kinds: list[list[Score]]) -> list[Score]:
    """Return one score for each recording, where every kind is made of the same ones; else one for each clip."""
    if len({len(one) for one in kinds}) == 1:
        return [Score.sum(list(one)) for one in zip(*kinds, strict=True)]
    return [one for kind in kinds for one in kind]


def print_costs(methods: dict[str, PitchMethod], audio: Audio) -> None:
    """Print the processor time of blocks of several lengths."""
    heads = " | ".join(f"{10 * block} ms" for block in COST_BLOCKS)
    print(f"\n| method | {heads} | of swift's | lookahead wanted |\n|" + "---|" * (len(COST_BLOCKS) + 3))
    first = 0.0
    for name, method in methods.items():
        streamed(method, audio[:RATE_HZ], 10, 8)  # warm
        medians = [1000 * float(np.median(streamed(method, audio, block, 8)[1])) for block in COST_BLOCKS]
        first = first or medians[1]
        cells = " | ".join(f"{one:.1f}" for one in medians)
        print(f"| {name} | {cells} | {medians[1] / first:.1f} | {10 * method.lookahead_frames} ms |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rmvpe", type=Path, help="rmvpe.pt, for --methods ...,rmvpe")
    parser.add_argument("--preset", default="balanced", choices=PRESETS)
    parser.add_argument("--voices", nargs="*", default=[], metavar="CLEAN")
    parser.add_argument("--sure-of", default=",".join(SURE_OF), help="methods by which voices are taken apart")
    parser.add_argument("--speech", nargs="*", default=[], metavar="CLEAN")
    parser.add_argument("--name", default="read", help="what to call the recordings of --speech")
    parser.add_argument("--noise", nargs="*", default=[])
    parser.add_argument("--snr", type=float, nargs="*", default=[20.0, 10.0])
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--longest", type=float, default=4.5, help="seconds taken of each recording")
    parser.add_argument("--cost", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods = available(options.methods.split(","), options.rmvpe)
    print(f"{platform.machine()}, torch {torch.__version__}, preset {options.preset}")
    if options.cost:
        print_costs(methods, next(evenly([options.cost], 1, 0.0, COST_S)))
        return
    scores: dict[str, dict[str, list[Score]]] = {}
    for kind, audio, truth in heard_clips(options, methods):
        for name, method in methods.items():
            known = truth[name] if isinstance(truth, dict) else truth
            found, _ = streamed(method, audio, *PRESETS[options.preset])
            scores.setdefault(kind, {}).setdefault(name, []).append(Score.of(found, known))
    print_tables(scores)


if __name__ == "__main__":
    main()
