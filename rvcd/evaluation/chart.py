"""The findings as a picture: a bar for each clip and measure, and the spectrogram of the clip in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rvcd.errors import MissingExtraError, how_to_install
from rvcd.evaluation.judging import Row
from rvcd.evaluation.library_caches import caches_of_programs, keep_library_caches
from rvcd.evaluation.measures import RATE_HZ, FloatArray


def find_matplotlib() -> ModuleType:
    """Return what draws. Raises MissingExtraError where it is not installed: better asked before minutes of judging."""
    keep_library_caches()
    try:
        with caches_of_programs():
            return import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError(f"the picture needs matplotlib ({error}); {how_to_install('eval')}") from None


def draw(path: Path, title: str, rows: Sequence[Row], source: FloatArray, streamed: FloatArray) -> None:
    """Write a PNG. source, streamed: one clip at 16 kHz. Raises MissingExtraError and, where it cannot be written, OSError."""
    figure = find_matplotlib().Figure(figsize=(11, 9), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(3, 2)
    at = np.arange(len(rows))
    names = [Path(row.clip).stem[:14] for row in rows]
    _bars(axes[0, 0], at, names, "speaker similarity (cosine)", {
        "to the target": [row.to_target for row in rows], "to the source": [row.to_source for row in rows],
    })  # fmt: skip
    _bars(axes[0, 1], at, names, "word errors (%)", {
        "source": [100 * row.source_errors / max(1, row.words) for row in rows],
        "converted": [100 * row.errors / max(1, row.words) for row in rows],
    })  # fmt: skip
    _bars(axes[1, 0], at, names, "naturalness (MOS 1..5)", {
        "source": [row.source_mos for row in rows], "offline": [row.offline_mos for row in rows],
        "streamed": [row.mos for row in rows],
    })  # fmt: skip
    _bars(axes[1, 1], at, names, "pitch error (cents, median)", {"streamed": [row.cents for row in rows]})
    for axis, audio, name in ((axes[2, 0], source, "source"), (axes[2, 1], streamed, "converted, streamed")):
        axis.specgram(audio + 1e-7, NFFT=512, Fs=RATE_HZ, noverlap=384, vmin=-120, vmax=-20)
        axis.set(title=f"{name}: {names[len(rows) // 2]}", xlabel="s", ylabel="Hz")
    figure.savefig(path, dpi=110)


def _bars(axis: Any, at: NDArray[np.int_], names: Sequence[str], title: str, series: dict[str, list[float]]) -> None:
    width = 0.8 / len(series)
    for i, (name, values) in enumerate(series.items()):
        axis.bar(at + (i - (len(series) - 1) / 2) * width, values, width, label=name)
    axis.set_title(title)
    axis.set_xticks(at, names, rotation=60, ha="right", fontsize=7)
    if len(series) > 1:
        axis.legend(fontsize=7)
