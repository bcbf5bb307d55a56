"""Draw clips above their conversions, to look for buzz, hiss and smeared formants.

    spectrograms.py OUT.png SOURCES CONVERTED [NAME...]

SOURCES and CONVERTED are folders, of which a clip of the same name (whatever its suffix) is drawn; without names the first three.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rvcd.evaluation.chart import find_matplotlib
from rvcd.evaluation.conversion import clips_in, read_clip
from rvcd.evaluation.measures import RATE_HZ, at_level

COUNT, LONGEST_S = 3, 3.0


def main(out: Path, sources: Path, converted: Path, *names: str) -> None:
    found = {clip.stem: clip for clip in clips_in(sources)}
    made = {clip.stem: clip for clip in clips_in(converted)}
    wanted = [Path(name).stem for name in names] or sorted(found.keys() & made.keys())[:COUNT]
    figure = find_matplotlib().Figure(figsize=(16, 7 * len(wanted)), layout="constrained")
    axes = figure.subplots(2 * len(wanted), 1, squeeze=False)[:, 0]
    pairs = [(name, kind, paths[name]) for name in wanted for kind, paths in (("source", found), ("converted", made))]
    for axis, (name, kind, path) in zip(axes, pairs, strict=True):
        audio = at_level(read_clip(path))[: int(LONGEST_S * RATE_HZ)]
        axis.specgram(audio + np.float32(1e-7), NFFT=400, Fs=RATE_HZ, noverlap=320, vmin=-110, vmax=-30, cmap="magma")
        axis.set(ylabel=f"{kind}, Hz", title=name if kind == "source" else "")
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *sys.argv[4:]) if len(sys.argv) > 3 else print(__doc__)
