"""A FLAC file that can be read at every moment, whatever becomes of its writer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from rvcd.audio.growing_flac import GrowingFlac
from rvcd.errors import AudioFileError

SOUND = np.random.default_rng(8).uniform(-1, 1, (60_000, 2)).astype(np.float32)
BLOCK = 4096

WRITER = """
import os, resource, sys
import numpy as np
from pathlib import Path
from rvcd.audio.growing_flac import GrowingFlac
from rvcd.errors import AudioFileError
sound = np.random.default_rng(8).uniform(-1, 1, (60_000, 2)).astype(np.float32)
if int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
file = GrowingFlac(Path(sys.argv[1]), 48000, 2)
try:
    for at in range(0, len(sound), 5000):
        file.write(sound[at : at + 5000])
except AudioFileError as error:
    print(error)
    try:
        file.close()
    except AudioFileError as error:
        print(error)
    sys.exit()
os.kill(os.getpid(), 9)
"""


def in_24_bits(samples: np.ndarray) -> np.ndarray:
    """What a 24-bit file gives back."""
    return (np.clip(np.rint(samples.astype(np.float64) * 2**23), -(2**23), 2**23 - 1) / 2**23).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9000), min_size=1, max_size=6))
def test_after_every_write_the_file_holds_all_whole_blocks(tmp_path_factory: pytest.TempPathFactory, counts: list[int]) -> None:
    path = tmp_path_factory.mktemp("flac") / "growing.flac"
    file, done = GrowingFlac(path, 48000, 2), 0
    for count in counts:
        file.write(SOUND[done : done + count])
        done += count
        assert file.samples == done
        if done > BLOCK:
            so_far, _ = soundfile.read(path, dtype="float32")
            assert done - BLOCK <= len(so_far) <= done
            np.testing.assert_array_equal(so_far, in_24_bits(SOUND[: len(so_far)]))
    file.close()
    file.close()
    if done:
        whole, rate_hz = soundfile.read(path, dtype="float32")
        np.testing.assert_array_equal(whole, in_24_bits(SOUND[:done]))
        assert rate_hz == 48000


def test_a_killed_writer_leaves_a_file_with_all_but_the_last_block(tmp_path: Path) -> None:
    path = tmp_path / "killed.flac"
    done = subprocess.run([sys.executable, "-c", WRITER, str(path), "0"], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    kept, _ = soundfile.read(path, dtype="float32")
    assert len(SOUND) - BLOCK <= len(kept)
    np.testing.assert_array_equal(kept, in_24_bits(SOUND[: len(kept)]))


def test_a_full_disk_is_said_in_one_sentence_and_what_was_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "full.flac"
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), "150000"], capture_output=True, text=True, check=True, timeout=60
    )
    first = done.stdout.splitlines()[0]
    said = re.fullmatch(rf"{path}: the disk took no more after (\d\.\d) s: is it full, or gone\?", first)
    assert said is not None
    written = float(said[1]) * 48000
    kept, _ = soundfile.read(path, dtype="float32")
    assert 0 < written - BLOCK - 2400 <= len(kept) <= written + 5000 + 2400
    np.testing.assert_array_equal(kept, in_24_bits(SOUND[: len(kept)]))


def test_an_existing_file_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "old.flac").write_bytes(b"old")
    (tmp_path / "link.flac").symlink_to(tmp_path / "elsewhere.flac")
    for name in ("old.flac", "link.flac"):
        with pytest.raises(FileExistsError):
            GrowingFlac(tmp_path / name, 48000, 2)
    assert (tmp_path / "old.flac").read_bytes() == b"old"
    assert not (tmp_path / "elsewhere.flac").exists()


def test_every_rate_a_device_may_have_fits_into_flac_and_others_are_refused(tmp_path: Path) -> None:
    for rate_hz in range(8000, 192_001, 4600):
        path = tmp_path / f"{rate_hz}.flac"
        file = GrowingFlac(path, rate_hz, 2)
        file.write(SOUND[:10])
        file.close()
        assert soundfile.info(path).samplerate == rate_hz
    with pytest.raises(AudioFileError, match="FLAC cannot hold 2 channels at 700000 Hz"):
        GrowingFlac(tmp_path / "fast.flac", 700_000, 2)
    assert not (tmp_path / "fast.flac").exists()


def test_a_folder_that_is_none_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AudioFileError, match=r"missing/a\.flac: cannot be written \(no such file or directory\)"):
        GrowingFlac(tmp_path / "missing" / "a.flac", 48000, 2)


def test_a_discarded_file_is_gone_and_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        GrowingFlac(tmp_path / f"{number}.flac", 48000, 2).discard()
    assert not list(tmp_path.iterdir())
    assert len(os.listdir("/proc/self/fd")) == before


def test_voice_and_meaning_of_the_channels_are_written_into_the_file(tmp_path: Path) -> None:
    file = GrowingFlac(tmp_path / "a.flac", 48000, 2, title="Ännchen", comment="channel 1 is dry")
    file.write(SOUND[:5000])
    file.close()
    with soundfile.SoundFile(tmp_path / "a.flac") as opened:
        assert (opened.title, opened.comment) == ("Ännchen", "channel 1 is dry")
