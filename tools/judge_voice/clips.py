"""Clips to judge with: folders of them, and clean ones chosen from a corpus.

    clips.py MANIFEST READERS OUT [--each 5]    clean speech: so many clips of each reader, with what is said in them

MANIFEST is a table of speech (path, corpus, speaker, seconds, transcript; tab-separated). READERS is a file with the name of a
speaker a line, whom no training heard; what follows # is a remark. The same clips are chosen every time.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path

from rvcd.evaluation.conversion import clips_in

SEED = 17
SHORTEST_S, LONGEST_S = 4.0, 12.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("readers", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--each", type=int, default=5)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with arguments.manifest.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if SHORTEST_S <= float(row["seconds"]) <= LONGEST_S]
    lines = (line.partition("#")[0].strip() for line in arguments.readers.read_text("utf-8").splitlines())
    for reader in filter(None, lines):
        own = sorted((row for row in rows if row["speaker"] == reader), key=lambda row: row["path"])
        random.Random(SEED).shuffle(own)
        print(f"{reader}: {min(arguments.each, len(own))} of {len(own)}")
        for row in own[: arguments.each]:
            source = arguments.manifest.parent / row["path"]
            place = arguments.out / source.name
            place.unlink(missing_ok=True)
            place.symlink_to(source.absolute())
            place.with_suffix(".txt").write_text(row["transcript"] + "\n", "utf-8")


def shuffled(folders: Sequence[Path]) -> list[Path]:
    """Return the clips of all folders, in an order that is the same every time: the first few are of many speakers."""
    clips = [clip for folder in folders for clip in clips_in(folder)]
    names = [clip.name for clip in clips]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise SystemExit(f"{min(doubled)}: is in two of the folders; give one of them another name")
    random.Random(SEED).shuffle(clips)
    return clips


def reader_of(clip: str) -> str:
    """Return the speaker that a clip's name begins with, as LibriSpeech's names do."""
    return Path(clip).stem.split("-")[0]


if __name__ == "__main__":
    main()
