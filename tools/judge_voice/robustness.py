"""How a voice takes what is not clean speech: whispers, shouts, laughs, songs, music, clipping, noise. Prints Markdown tables.

    robustness.py OUT FOLDER... [--noise ESC-10] [--clips 8] [--voice FILE.pth] [--encoder NAME=FILE]

Every clip (3 to 8 s, from all folders in turn) is heard in every way of cases.py, streamed with the preset, and transposed by
what brings the person, as recorded, to the target's register. ESC-10 is a folder of recordings without speech; without it the
noise is white. OUT/robustness.jsonl has a row for each; a second call goes on where the first stopped. Needs the
extras eval and pitch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from cases import RATE_HZ, Audio, Case, alone, cases_of
from clips import shuffled
from live import Listener, Live, at_16k
from pitch_methods.clip import NOISES, load
from results import Results, Row
from voice_config import add_options, judged_voice

from rvcd.evaluation.conversion import read_clip
from rvcd.evaluation.measures import pitch_agreement

SHORTEST_S, LONGEST_S = 3.0, 8.0
ALONE = "alone"
LEAST_DBFS = -120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--noise", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    add_options(parser)
    arguments = parser.parse_args()
    judged = judged_voice(arguments, arguments.out)
    results = Results(arguments.out / "robustness.jsonl", judged.mark)
    live, listener, noises = Live(judged), Listener(), recorded_noises(arguments.noise)
    for case in alone(noises):
        if f"{ALONE}/{case.kind}" not in results:
            made = live.convert([case.audio], 0.0)[0]
            results.add(f"{ALONE}/{case.kind}", {"clip": ALONE, **levels(case, made), **voiced(live, case, made)})
    chosen = chosen_clips(arguments.folders, arguments.clips)
    for number, path in enumerate(chosen):
        if f"{path.name}/done" in results:
            continue
        audio = read_clip(path)
        track, semitones, said = live.track(audio), live.semitones_for(audio), listener.said(audio, path)
        f0_hz = np.where(track.voiced, track.f0_hz, 0.0)
        for case in cases_of(audio, f0_hz, noises[number % len(noises)][1], number):
            key = f"{path.name}/{case.kind}"
            if key not in results:
                made = live.convert([case.audio], semitones)[0]
                row = {"clip": path.name, **levels(case, made), **pitch(live, case, made, semitones)}
                row |= words(listener, said, case, made) if case.words else {}
                results.add(key, row)
        results.add(f"{path.name}/done", {"clip": path.name})
        print(f"# {number + 1} of {len(chosen)}: {path.name}", flush=True)
    rows = [row for row in results.rows if "kind" in row and row["clip"] in {ALONE, *(path.name for path in chosen)}]
    table = f"{tables(rows)}\n"
    (arguments.out / "robustness.md").write_text(table)
    print(table)


def chosen_clips(folders: list[Path], count: int) -> list[Path]:
    """Return clips of all folders in turn, none too short or too long."""
    found: list[Path] = []
    rounds = zip(*(shuffled([folder]) for folder in folders), strict=False)
    for path in (path for one in rounds for path in one):
        if len(found) < count and SHORTEST_S <= len(read_clip(path)) / RATE_HZ <= LONGEST_S:
            found.append(path)
    return found


def recorded_noises(folder: Path | None) -> list[tuple[str, Audio]]:
    if folder is None:
        return [("white noise, other", np.random.default_rng(2).standard_normal(80_000).astype(np.float32))]
    files = {kind: next((path for path in sorted(folder.rglob(f"{kind}*"))), None) for kind in NOISES}
    return [(kind.lower().replace("_", " "), load(path, 5.0)) for kind, path in files.items() if path]


def levels(case: Case, made: Audio) -> Row:
    """Return what must hold whatever is heard: finite samples, none above full scale; and how loud it is."""
    finite = np.isfinite(made)
    return {
        "kind": case.kind,
        "above_full_scale": int(np.sum(np.abs(made[finite]) > 1.0)),
        "not_finite": int(np.sum(~finite)),
        "peak": float(np.abs(made[finite]).max(initial=0.0)),
        "in_dbfs": dbfs(case.audio),
        "out_dbfs": dbfs(made[finite]),
    }


def dbfs(audio: Audio) -> float:
    return 10 * float(np.log10(max(10 ** (LEAST_DBFS / 10), float(np.mean(np.square(audio, dtype=np.float64))))))


def voiced(live: Live, case: Case, made: Audio) -> Row:
    return {"in_voiced": float(live.track(case.audio).voiced.mean()), "out_voiced": float(live.track(at_16k(made)).voiced.mean())}


def pitch(live: Live, case: Case, made: Audio, semitones: float) -> Row:
    """Hold the pitch that is heard against the one that was asked for, where that is known."""
    track = live.track(at_16k(made))
    count = min(len(track.f0_hz), len(case.f0_hz))
    known = ~np.isnan(case.f0_hz[:count])
    wanted_hz, found_hz = case.f0_hz[:count][known], track.f0_hz[:count][known]
    agreement = pitch_agreement(wanted_hz * 2 ** (semitones / 12), wanted_hz > 0, found_hz, track.voiced[:count][known])
    cents = None if np.isnan(agreement.median_cents) else agreement.median_cents
    return {"cents": cents, "voicing": agreement.agreement, "out_voiced": float(track.voiced.mean())}


def words(listener: Listener, said: list[str], case: Case, made: Audio) -> Row:
    return {
        "words": len(said),
        "source_errors": listener.errors(said, case.audio),
        "errors": listener.errors(said, at_16k(made)),
    }


def tables(rows: list[Row]) -> str:
    """Return what is spoken, and what is no voice."""
    spoken = [row for row in rows if row["clip"] != ALONE]
    lines = ["| heard | clips | words wrong, source | converted | cents | voicing alike | level out - in | above full scale |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|")
    for kind in dict.fromkeys(row["kind"] for row in spoken):
        own = [row for row in spoken if row["kind"] == kind]
        said = sum(row.get("words", 0) for row in own)
        rates = [f"{100 * sum(row[name] for row in own) / said:.0f} %" if said else "" for name in ("source_errors", "errors")]
        cents = [row["cents"] for row in own if row["cents"] is not None]
        gain = np.mean([row["out_dbfs"] - row["in_dbfs"] for row in own])
        cells = [kind, str(len(own)), *rates, f"{np.median(cents):.0f}" if cents else "",
                 f"{100 * np.mean([row['voicing'] for row in own]):.0f} %", f"{gain:+.1f} dB", wrong(own)]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| heard alone | level in | out | voiced in | out | above full scale |", "|---|--:|--:|--:|--:|--:|"]
    for row in (row for row in rows if row["clip"] == ALONE):
        shares = [f"{100 * row[name]:.0f} %" for name in ("in_voiced", "out_voiced")]
        cells = [row["kind"], f"{row['in_dbfs']:.0f} dBFS", f"{row['out_dbfs']:.0f} dBFS", *shares, wrong([row])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def wrong(rows: list[Row]) -> str:
    count, unknown = (sum(row[name] for row in rows) for name in ("above_full_scale", "not_finite"))
    return f"{count}" + (f", {unknown} not finite" if unknown else "")


if __name__ == "__main__":
    main()
