"""How far the units of unheard speech are from an index, by how much speech it was made of, and whose.

Usage: python tools/measure_index.py ENCODER FOLDER...   A content encoder of HuBERT's kind, whose last layer is asked, and a
folder (or quoted pattern) for each speaker, with recordings of nobody else.

An index of the first files of a speaker is asked for units of the last quarter of their files, and of every other speaker's; the
distances are relative to the units' own size: 1 means that the index knows nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from rvcd.audio.found_files import find_audio
from rvcd.engine.index_maker import make_index
from rvcd.engine.retrieval import FaissSearch, UnitIndex
from rvcd.formats.contentvec_header import read_unit_widths
from rvcd.indexing.recordings import Heard, pieces_of
from rvcd.nets.contentvec_file import load_content_encoder

MINUTES = (0.5, 1.0, 2.0, 4.0)


def main(encoder_path: str, speakers: list[str]) -> None:
    torch.set_num_threads(1)
    encoder, width = load_content_encoder(encoder_path), read_unit_widths(encoder_path)[0]

    @torch.inference_mode()
    def units_of(files: list[Path]) -> np.ndarray:
        pieces = pieces_of(files, Heard(), lambda done: None)
        return np.concatenate([encoder.units(torch.from_numpy(piece)[None], unit_width=width)[0].numpy() for piece in pieces])

    known, unheard = [], []
    for speaker in speakers:
        files = [file.source for file in find_audio([speaker], [])]
        last = max(1, len(files) // 4)
        known.append(units_of(files[:-last]))
        unheard.append(units_of(files[-last:]))
    print("| minutes | vectors | same speaker | other speakers | blended: same | blended: other |\n|---|---|---|---|---|---|")
    for minutes in MINUTES:
        found = []
        for number, rows in enumerate(known):
            rows = rows[: round(minutes * 60 * 50)]
            index = UnitIndex(width, len(rows), FaissSearch(make_index(rows, 0, lambda done: None)))
            for other, queries in enumerate(unheard):
                blended = index.blend(torch.from_numpy(queries), 1.0).numpy()
                nearest = index.search.nearest(torch.from_numpy(queries), 1)[0].numpy()[:, 0]
                size = np.linalg.norm(queries - known[number].mean(axis=0), axis=1)
                found.append((number == other, np.sqrt(nearest) / size, np.linalg.norm(blended - queries, axis=1) / size))
        own, others = ([one for one in found if one[0] is same] for same in (True, False))
        numbers = [np.median(np.concatenate([one[k] for one in group])) for k in (1, 2) for group in (own, others)]
        print(f"| {minutes:g} | {round(minutes * 3000)} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:]) if sys.argv[1:] else print(__doc__)
