"""Judge a voice on folders of speech against the gates of the built-in voice. `rvcd eval` judges; this goes on where it stopped.

    judge.py OUT FOLDER... [--voice FILE.pth] [--encoder NAME=FILE] [--speech hard|clean] [--clips 100] [--jobs 1]

The clips go to `rvcd eval` ten at a time, streamed with the preset, each moved to the target's register. OUT gets clips.jsonl (a
clip a line), table.md (the gates), chart.png and converted/ (the streams). A second call judges only what is missing; a voice
whose files changed is judged anew. Needs the extra `eval`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

from clips import reader_of, shuffled
from voice_config import JudgedVoice, add_options, judged_voice

from rvcd.evaluation import chart
from rvcd.evaluation.conversion import read_clip
from rvcd.evaluation.judging import Row
from rvcd.evaluation.verdict import Verdict, summarise

BATCH = 10
EVAL = "from rvcd.cli.main import main; main()"
WORD_GATES = {"hard": (15, 6), "clean": (8, 3)}
"""Points of word errors above the source's: must, goal."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--speech", choices=tuple(WORD_GATES), default="hard", help="which gate of words counts")
    parser.add_argument("--clips", type=int, default=1000, help="at most so many")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    add_options(parser)
    arguments = parser.parse_args()
    voice = judged_voice(arguments, arguments.out)
    clips = shuffled(arguments.folders)[: arguments.clips]
    batches = [clips[first : first + BATCH] for first in range(0, len(clips), BATCH)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        found = [one for one in pool.map(lambda batch: judge_batch(batch, voice, arguments.out), batches) if one]
    if not found:
        raise SystemExit("nothing was judged")
    about, rows = found[0], [row_of(row) for one in found for row in one["rows"]]
    (arguments.out / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for one in found for row in one["rows"]))
    told = about["voice"], about["preset"], about["block_ms"], about["algorithmic_ms"]
    verdict = summarise(rows, *told)
    by_reader = summarise(rows, *told, [reader_of(row.clip) for row in rows])
    table = gates(verdict, by_reader, len({reader_of(row.clip) for row in rows}), arguments.speech)
    (arguments.out / "table.md").write_text(table + "\n")
    print(table)
    draw(arguments.out, f"{verdict.voice}, {verdict.preset}: {len(rows)} clips", rows, clips)


def judge_batch(clips: Sequence[Path], voice: JudgedVoice, out: Path) -> dict | None:
    """Return what `rvcd eval --json` says of some clips, now or in an earlier run; None where it failed."""
    named = hashlib.sha256("\n".join(clip.name for clip in clips).encode()).hexdigest()[:10]
    done = out / "batches" / f"{voice.mark}-{named}.json"
    if done.exists():
        return json.loads(done.read_text())
    folder = out / "batches" / named
    folder.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        for path in (clip, clip.with_suffix(".txt")):
            link = folder / path.name
            link.unlink(missing_ok=True)
            if path.exists():
                link.symlink_to(path.absolute())
    command = [sys.executable, "-c", EVAL, "eval", str(folder), "--config", str(voice.config), "--pitch", "auto", "--json"]
    command += ["--judges", "--audio", str(out / "converted"), *(("--voice", voice.voice) if voice.voice else ())]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        print(f"{folder}: failed: {ran.stderr.strip()[-500:]}", file=sys.stderr)
        return None
    scratch = done.with_suffix(".part")
    scratch.write_text(ran.stdout)
    os.replace(scratch, done)
    print(f"{len(list(done.parent.glob(f'{voice.mark}-*.json')))} batches of {BATCH} clips", file=sys.stderr, flush=True)
    return json.loads(ran.stdout)


def row_of(found: dict) -> Row:
    """Return a row of the JSON, in which null is what is not known."""
    return Row(**{field.name: math.nan if found[field.name] is None else found[field.name] for field in fields(Row)})


def gates(v: Verdict, by_reader: Verdict, readers: int, speech: str) -> str:
    """Return the Markdown table. Standard errors: of the clips, and of the readers, whose clips are drawn together."""
    must, goal = WORD_GATES[speech]

    def line(name: str, wanted: tuple[str, str], figure: str, times: float, digits: int, met: bool | None) -> str:
        errors = [f"{times * getattr(one.standard_errors, figure):.{digits}f}" for one in (v, by_reader)]
        value = f"{times * getattr(v, figure):.{digits}f}"
        value = f"**{value}**" if met is False else value
        return f"| {name} | {' | '.join(wanted)} | {value} | {' | '.join(errors)} |"

    def count(name: str, wanted: tuple[str, str], value: str, met: bool) -> str:
        return f"| {name} | {' | '.join(wanted)} | {value if met else f'**{value}**'} | | |"

    above, nearer = 100 * v.wer_above_source, v.closer_to_target
    title = f"{v.voice}, {v.clips} clips of {readers} readers, {speech} speech, `{v.preset}`"
    return "\n".join([
        f"| {title} | must | goal | found | ± by clips | ± by readers |",
        "|---|--:|--:|--:|--:|--:|",
        line("naturalness, DistillMOS", ("3.0", "3.5"), "mos", 1, 2, v.mos >= 3.0),
        line("of the source", ("", ""), "source_mos", 1, 2, None),
        line("word errors, %", ("", ""), "wer", 100, 1, None),
        line("of the source", ("", ""), "source_wer", 100, 1, None),
        line("above the source's, points", (f"{must}", f"{goal}"), "wer_above_source", 100, 1, above <= must),
        line("similarity to the target", ("0.80", "0.85"), "to_target", 1, 3, v.to_target >= 0.80),
        line("to the source", ("", ""), "to_source", 1, 3, None),
        count("nearer to the target", ("all", "all"), f"{nearer} of {v.clips}", nearer == v.clips),
        count("the least similarity", ("", ""), f"{v.least_to_target:.2f}", True),
        line("pitch error, cents", ("15", "10"), "cents", 1, 1, v.cents <= 15),
        line("voicing alike, %", ("97", "98"), "voicing", 100, 1, v.voicing >= 0.97),
        count("block, lookahead and deadline, ms", ("200", "150"), f"{v.algorithmic_ms:g}", v.algorithmic_ms <= 200),
    ])  # fmt: skip


def draw(out: Path, title: str, rows: Sequence[Row], clips: Sequence[Path]) -> None:
    """Draw the judges' figures and the clip in the middle."""
    middle = rows[len(rows) // 2].clip
    source = next(clip for clip in clips if clip.name == middle)
    chart.draw(out / "chart.png", title, rows, read_clip(source), read_clip(out / "converted" / f"{source.stem}.wav"))


if __name__ == "__main__":
    main()
