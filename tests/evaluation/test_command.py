"""`rvcd eval` from a folder to a verdict, with judges that are told what to think: the real ones are an extra of 0.4 GB."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from rvcd.cli import main as cli
from rvcd.errors import AudioFileError, MissingExtraError, ParamError
from rvcd.evaluation import judging, measuring
from rvcd.evaluation.command import Findings, findings_document
from rvcd.evaluation.judges import SpeakerJudge
from rvcd.evaluation.judging import Judges, Row
from rvcd.evaluation.verdict import Verdict, summary_lines, table_rows
from tests.support import speech_like


class FakeSpeaker:
    """Tells voices apart by their loudness at low and high frequencies."""

    def embed(self, audio_16k: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(audio_16k)) ** 2
        return np.array([part.sum() for part in np.array_split(power, 8)], np.float32) / power.sum()


class FakeWords:
    def __init__(self, heard: str) -> None:
        self.heard = heard

    def text(self, audio_16k: np.ndarray) -> str:
        return self.heard


class FakeNatural:
    def score(self, audio_16k: np.ndarray) -> float:
        return 3.5


@pytest.fixture(autouse=True)
def quiet_judges(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    judges = Judges(FakeSpeaker(), FakeNatural(), FakeWords("glue the cheat"), FakeWords("glue the sheet"))  # type: ignore[arg-type]
    monkeypatch.setattr(Judges, "load", classmethod(lambda cls, threads: judges))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "eval-cache"))
    config = tmp_path_factory.mktemp("eval") / "rvcd.toml"
    config.write_text('[models]\ncontent_encoder = "test"\n')
    monkeypatch.setenv("RVCD_CONFIG", str(config))
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    folder = tmp_path / "speech"
    folder.mkdir()
    for name, seconds in (("a.wav", 1.5), ("b.flac", 1.0)):
        soundfile.write(folder / name, speech_like(16000, seconds), 16000)
    (folder / "b.txt").write_text("Glue the cheat!")
    (folder / "notes.md").write_text("no audio")
    return folder


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, ["eval", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_every_clip_has_a_row_and_all_together_a_verdict(speech: Path, tmp_path: Path) -> None:
    code, out, _ = run(speech, "--preset", "safe", "--target", speech, "--audio", tmp_path / "made", "--json")
    assert code == 0
    found = json.loads(out)
    rows = found.pop("rows")
    assert [row["clip"] for row in rows] == ["a.wav", "b.flac"] and found["clips"] == 2
    # The text beside b.flac is what was said there; of a.wav the larger recogniser wrote it down.
    assert [row["errors"] for row in rows] == [1, 0] and found["wer"] == pytest.approx(1 / 6, abs=1e-4)
    assert (found["preset"], found["block_ms"], found["algorithmic_ms"]) == ("safe", 200, 480)
    assert -1 <= found["to_target"] <= 1 and found["closer_to_target"] in (0, 1, 2)
    assert found["mos"] == found["source_mos"] == 3.5 and found["load"] > 0
    made, rate_hz = soundfile.read(tmp_path / "made" / "a.wav")
    assert rate_hz == 16000 and len(made) == 24000 and np.abs(made).max() > 0.01


def test_the_test_voice_follows_the_pitch_it_is_asked_for(speech: Path) -> None:
    _, out, _ = run(speech, "--pitch", "5", "--preset", "safe", "--json")
    rows = json.loads(out)["rows"]
    assert all(row["pitch_semitones"] == 5 and row["cents"] < 30 and row["voicing"] > 0.7 for row in rows)


def test_auto_brings_each_clip_to_the_register_of_the_target(speech: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    t = np.arange(24000) / 16000
    soundfile.write(target / "high.wav", 0.2 * sum(np.sin(2 * np.pi * 330 * k * t) / k for k in range(1, 9)), 16000)
    _, out, _ = run(speech, "--pitch", "auto", "--target", target, "--preset", "safe", "--json")
    assert all(10 <= row["pitch_semitones"] <= 17 for row in json.loads(out)["rows"])


def test_without_samples_of_the_target_its_similarity_is_unknown_and_said_so(
    speech: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(speech, "--preset", "safe")
    err = capfd.readouterr().err
    assert code == 0
    assert "similarity to the target: unknown; name samples of the voice with --target" in out
    assert "1 of 2: a.wav" in err and "word errors 16.7 ± " in out


@pytest.mark.parametrize(
    ("args", "error", "text"),
    [
        (("nowhere",), AudioFileError, "nowhere: no such file or directory; name a folder with audio files"),
        (("speech/a.wav",), AudioFileError, "speech/a.wav: not a directory"),
        (("speech", "--audio", "speech/a.wav/made"), AudioFileError, "cannot be made: not a directory; name another folder"),
        ((".",), AudioFileError, "holds no audio file"),
        (("speech", "--pitch", "high"), ParamError, "--pitch high: is no number; it takes -24..24 semitones, or auto"),
        (("speech", "--preset", "save"), ParamError, "--preset save is unknown; did you mean 'safe'?"),
        (("speech", "--target", "nothing"), AudioFileError, "nothing"),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_sentence(
    speech: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], error: type[Exception], text: str
) -> None:
    (speech.parent / "nothing").mkdir()
    monkeypatch.chdir(speech.parent)
    with pytest.raises(error) as caught:
        run(*args)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_a_picture_that_cannot_be_drawn_is_said_before_anything_is_judged(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"the picture needs matplotlib .*pip install -e '\.\[eval\]'"):
        run(speech, "--chart", tmp_path / "a.png")
    assert "loading" not in capfd.readouterr().err


def test_a_missing_judge_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(MissingExtraError, match=r"rvcd eval needs Resemblyzer .*pip install -e '\.\[eval\]'"):
        SpeakerJudge()


ROW = Row("a.wav", 1.5, 0.0, math.nan, 0.5, math.nan, 10, 1, 3, 4.0, 3.5, 3.25, math.nan, 0.975, 0.25)
VERDICT = Verdict("v", "low", 40, 170, 1, 0.81, 0.8, 1, 0.82, 0.1, 0.3, 4.0, 3.5, 3.25, 12, 0.975, 0.25)


def test_unknown_numbers_are_dashes_in_the_table_and_null_in_json() -> None:
    assert table_rows([ROW])[0] == ("a.wav", "1.5", "+0", "-", "0.50", "3 of 10 (1)", "3.25 (4.00, 3.50)", "-", "98 %")
    row = json.loads(findings_document(Findings("v", "low", 40, 170, [], VERDICT, [ROW], [])))["rows"][0]
    assert row["to_target"] is None and row["mos"] == 3.25


def test_the_verdict_reads_as_sentences() -> None:
    lines = summary_lines(VERDICT)
    assert lines[0].startswith(
        "speaker similarity to the target 0.81 (least 0.80, in one pass 0.82), to the source -; closer to the target"
    )
    assert lines[-1] == "load 0.25 at 40 ms blocks (low: 170 ms of block, lookahead and deadline)"
    assert "unknown" in summary_lines(replace(VERDICT, to_target=math.nan))[0]


def test_judging_names_the_columns_of_the_table() -> None:
    from rvcd.evaluation.verdict import HEADINGS

    assert len(HEADINGS) == len(table_rows([ROW])[0])
    assert judging.Row is Row


# ---- without judges


def test_without_judges_a_clip_is_measured_all_the_same(speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(cls: type, threads: int) -> Judges:
        raise MissingExtraError("rvcd eval needs Resemblyzer")

    monkeypatch.setattr(Judges, "load", classmethod(missing))
    code, out, _ = run(speech, "--preset", "safe", "--json")
    found = json.loads(out)
    assert code == 0 and "rows" not in found and found["clips"] == 2 and found["preset"] == "safe"
    row = found["measures"][0]
    assert row["clip"] == "a.wav" and row["seconds"] == 1.5 and row["clipped"] == row["source_clipped"] == 0
    assert row["cents"] < 30 and row["voicing"] > 0.7 and row["gross"] < 0.2
    assert row["source_lufs"] == pytest.approx(-19.2, abs=3) and -40 < row["lufs"] < -5
    assert row["stream_snr_db"] is not None and row["stream_mcd_db"] > 0 and row["distance_db"] > row["stream_distance_db"]
    assert row["real_time"] > 0 and row["load"] > 0
    with pytest.raises(MissingExtraError):
        run(speech, "--judges")


def test_judges_can_be_left_out_and_the_page_has_everything_in_it(speech: Path, tmp_path: Path) -> None:
    hostile = speech / "<script>alert(1)</script>.wav".replace("/", "_")
    (speech / "a.wav").rename(hostile)
    code, out, err = run(speech, "--preset", "safe", "--no-judges", "--report", tmp_path / "new/page.html")
    assert code == 0 and "loading the judges" not in err and out.splitlines()[0].split("\t") == list(measuring.HEADINGS)
    page = (tmp_path / "new/page.html").read_text("utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page and "http" not in page
    assert page.count("data:image/png;base64,") == 4 and page.count("<figure>") == 2
    assert "times real time" in page


def test_a_clip_that_cannot_be_read_is_said_and_the_others_are_measured(speech: Path) -> None:
    (speech / "0.wav").write_text("no audio")
    code, out, _ = run(speech, "--preset", "safe", "--no-judges", "--json")
    found = json.loads(out)
    assert code == 1 and len(found["measures"]) == 2 and "0.wav: not an audio file" in found["failed"][0]
    for path in speech.glob("[ab].*"):
        path.unlink()
    with pytest.raises(AudioFileError, match=r"0\.wav"):
        run(speech, "--no-judges")
