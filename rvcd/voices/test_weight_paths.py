"""Where the test weights lie. Stdlib only: the control process names them without building them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER_NAME = "test-weights-2"
"""Raise the number when their content changes."""
VOICE_V2, VOICE_V1 = "test-buzz", "test-hum"
UNIT_WIDTH_V2, UNIT_WIDTH_V1 = 64, 32


@dataclass(frozen=True)
class TestWeightPaths:
    """The files of one set of test weights."""

    __test__ = False  # not a pytest class

    folder: Path
    encoder: Path
    voice_v2: Path
    voice_v1: Path
    index_v2: Path

    @classmethod
    def below(cls, cache: Path) -> TestWeightPaths:
        """The set that belongs into the cache folder."""
        return cls.in_folder(cache / FOLDER_NAME)

    @classmethod
    def in_folder(cls, folder: Path) -> TestWeightPaths:
        return cls(
            folder,
            folder / "hubert_test",
            folder / f"{VOICE_V2}.pth",
            folder / f"{VOICE_V1}.pth",
            folder / f"added_IVF8_Flat_nprobe_1_{VOICE_V2}_v2.index",
        )

    def files(self) -> tuple[Path, ...]:
        """Every file of the set."""
        return (self.encoder / "model.safetensors", self.encoder / "config.json", self.voice_v2, self.voice_v1, self.index_v2)
