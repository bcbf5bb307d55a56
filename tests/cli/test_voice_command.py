"""`rvcd voice`: what people and scripts are told about their voices, with real files."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rvcd.cli.voice_check import check_voice, find_twins
from rvcd.config.settings import Settings
from rvcd.nets.test_weights import ensure_test_weights
from rvcd.voices.builtin_paths import BUILT_IN_FOLDER
from rvcd.voices.registry import VoiceEntry
from rvcd.voices.test_weight_paths import TestWeightPaths
from tests.cli.conftest import Rvcd
from tests.rvcctl.fake_daemon import running_daemon
from tests.transfer.server import WebServer, serving, whole

PARITY = Path(__file__).parents[1] / "data" / "parity"
V2, V1 = PARITY / "v2_40k_f0.pth", PARITY / "v1_40k_f0.pth"
INDEX_V1, INDEX_V2 = (PARITY / f"added_IVF8_Flat_nprobe_1_kit_{version}.index" for version in ("v1", "v2"))

RVCCTL = "from rvcctl.cli import main; main()"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> TestWeightPaths:
    """The test weights stand for a user's encoder (units of width 64 and 32) and two voices that go with it."""
    return ensure_test_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    (tmp_path / "voices").mkdir()
    return tmp_path / "voices"


@pytest.fixture
def rvcd(rvcd: Rvcd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, voices: Path) -> Rvcd:
    """Run `rvcd voice` in this process, its configuration in $RVCD_CONFIG; gives (exit code, stdout, stderr)."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("RVCD_CONFIG", str(tmp_path / "rvcd.toml"))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    (tmp_path / "rvcd.toml").write_text('[voices]\nfolders = ["voices"]\n')

    return lambda *arguments: rvcd("voice", *arguments)


@pytest.fixture
def with_encoder(rvcd: Rvcd, tmp_path: Path, weights: TestWeightPaths) -> Rvcd:
    """The same, with a content encoder configured."""
    with (tmp_path / "rvcd.toml").open("a") as file:
        file.write(f'[models]\ncontent_encoder = "{weights.encoder}"\n')
    return rvcd


def put(folder: Path, name: str, voice: Path, index: Path | None = None, toml: str = "") -> Path:
    """Make a voice's folder; return its .pth."""
    (folder / name).mkdir()
    shutil.copy(voice, folder / name / f"{name}.pth")
    if index is not None:
        shutil.copy(index, folder / name / f"{name}.index")
    if toml:
        (folder / name / "voice.toml").write_text(toml)
    return folder / name / f"{name}.pth"


# ---- list


def test_list_shows_slots_indexes_gains_and_parameters_and_what_was_passed_over(with_encoder: Rvcd, voices: Path) -> None:
    anna = put(voices, "anna", V2, INDEX_V2, "slot = 4\ngain_db = -2.5\n[params]\npitch = 3\nindex_rate = 0.75\n")
    bob = put(voices, "bob", V1, toml="slott = 1")
    (voices / "G_1.pth").write_bytes(b"x")
    code, out, err = with_encoder("list")
    assert code == 0
    assert [line.split("\t") for line in out.splitlines()] == [
        ["slot", "name", "index", "gain", "params", "file"],
        ["1", "bob", "-", "0 dB", "-", str(bob)],
        ["4", "anna", "anna.index", "-2.5 dB", "pitch=3 index_rate=0.75", str(anna)],
        ["999", "built-in", "built-in.index", "0 dB", "index_rate=0", str(BUILT_IN_FOLDER / "built-in.pth")],
    ]
    assert [line.split(": ")[0] for line in err.splitlines()] == ["note", "note"]
    assert "G_1.pth: is a training checkpoint" in err and "slott: unknown key; did you mean 'slot'?" in err
    listed = json.loads(with_encoder("list", "--json")[1])
    assert listed[1] == {
        "slot": 4, "name": "anna", "path": str(anna), "index": str(anna.with_suffix(".index")), "speaker": 0, "gain_db": -2.5,
        "params": {"pitch": 3.0, "index_rate": 0.75}, "encoder": "", "f0_median_hz": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(("word", "listed"), [("test", ["test-buzz", "test-hum"]), ("built-in", ["built-in"])])
def test_without_a_content_encoder_rvcds_own_voices_are_listed_and_the_reason_is_told(
    rvcd: Rvcd, voices: Path, tmp_path: Path, word: str, listed: list[str]
) -> None:
    put(voices, "anna", V2)
    with (tmp_path / "rvcd.toml").open("a") as file:
        file.write(f'[models]\ncontent_encoder = "{word}"\n')
    code, out, err = rvcd("list")
    assert code == 0
    assert [line.split("\t")[1] for line in out.splitlines()[1:]] == listed
    which = "the test voices are" if word == "test" else "the built-in voice is"
    assert err.startswith(f"note: there is no content encoder for others' voices: only {which} listed")


def test_the_built_in_voice_passes_its_own_check_with_its_own_encoder(rvcd: Rvcd) -> None:
    code, out, _ = rvcd("check", "built-in")
    assert code == 0 and lines(out)["built-in"][0] == "ok"


def test_no_voice_at_all_is_said(with_encoder: Rvcd, voices: Path) -> None:
    assert with_encoder("list")[1].count("\n") == 2, "but the built-in one"
    code, _, err = with_encoder("check")
    assert code == 1
    assert err == f"rvcd: there is no voice (*.pth) in {voices}; `rvcd voice import FILE` puts one there\n"


# ---- info


def test_info_says_what_a_voice_is_by_its_name_file_or_folder(rvcd: Rvcd, voices: Path) -> None:
    anna = put(voices, "anna", V2, INDEX_V2, 'slot = 4\nspeaker = 1\ngain_db = 3\nname = "Anna"\n[params]\npitch = -3\n')
    for wanted, slot in (("Anna", "4"), (anna, ""), (anna.parent, "4")):
        code, out, _ = rvcd("info", wanted)
        assert code == 0
        said = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith("unit"))
        assert said["name"] == "Anna" and said["version"] == "v2" and said["rate"] == "40000 Hz"
        assert said["index"] == "anna.index, 600 vectors of width 768"
        assert (said["gain"], said["params"], said["speaker"]) == ("3 dB", "pitch=-3", "1")
        assert slot in said.get("slot", "") or wanted == anna.parent
    fields = json.loads(rvcd("info", "Anna", "--json")[1])
    assert (fields["unit_width"], fields["slot"], fields["speaker"], fields["path"]) == (768, 4, 1, str(anna))


def test_info_of_what_is_no_voice_is_one_sentence(rvcd: Rvcd, voices: Path, tmp_path: Path) -> None:
    put(voices, "Caroline", V2)
    put(voices, "bob", V1)
    (tmp_path / "text.pth").write_text("hello")
    for wanted, words in (
        ("carolne", "unknown voice 'carolne'; did you mean 'Caroline'?"),
        ("none.pth", "none.pth: does not exist; check the path"),
        (tmp_path / "text.pth", "is not a torch file"),
        (str(voices), "holds 2 voices (bob, Caroline); name one of their .pth files"),
        ("a\nb", "that is no voice's name"),
    ):
        code, out, err = rvcd("info", wanted)
        assert (code, out) == (1, "") and words in err and err.count("\n") == 1


def test_the_test_voices_can_be_looked_at_by_name(rvcd: Rvcd, tmp_path: Path) -> None:
    ensure_test_weights(tmp_path / "XDG_CACHE_HOME" / "rvcd")
    with (tmp_path / "rvcd.toml").open("a") as file:
        file.write('[models]\ncontent_encoder = "test"\n')
    code, out, _ = rvcd("info", "test-buzz")
    assert code == 0 and "v2" in out


# ---- check


def lines(out: str) -> dict[str, tuple[str, str]]:
    """Return (level, text) by the voice's name."""
    return {name: (level, text) for level, name, text in (line.split(maxsplit=2) for line in out.splitlines())}


def test_sound_voices_pass_the_check(with_encoder: Rvcd, voices: Path, weights: TestWeightPaths) -> None:
    put(voices, "anna", weights.voice_v2, weights.index_v2, "gain_db = 1")
    put(voices, "bob", weights.voice_v1)
    code, out, err = with_encoder("check")
    assert (code, err) == (0, "")
    assert lines(out) == {
        "anna": ("ok", "v2, 40000 Hz, f0, 64-wide units, tensors whole, 400 vectors in its index"),
        "bob": ("ok", "v1, 48000 Hz, f0, 32-wide units, tensors whole, no index"),
    }


def test_each_thing_that_would_fail_is_named_with_its_fix(with_encoder: Rvcd, voices: Path, weights: TestWeightPaths) -> None:
    put(voices, "cut", weights.voice_v2).write_bytes(weights.voice_v2.read_bytes()[:50_000])
    put(voices, "foreign", V2)
    content = torch.load(weights.voice_v2, weights_only=True)
    content["weight"]["enc_p.emb_phone.weight"][0, 0] = float("nan")
    torch.save(content, put(voices, "nan", weights.voice_v2))
    put(voices, "speaker", weights.voice_v1, toml="speaker = 7")
    put(voices, "toml", weights.voice_v2, toml="gain_db = 99")
    code, out, _ = with_encoder("check")
    assert code == 1
    found = lines(out)
    assert {level for level, _ in found.values()} == {"fail"}
    for name, words in (
        ("cut", "is cut short"),
        ("foreign", f"{weights.encoder}: makes units of width 64 or 32, but the voice takes width 768; use the content encoder"),
        ("nan", "tensor 'enc_p.emb_phone.weight' holds NaN or infinity"),
        ("speaker", "has no speaker 7, which its voice.toml names; it has 0..1"),
        ("toml", "gain_db: 99 is too large; it takes a number, -24..24 dB"),
    ):
        assert words in found[name][1], name


def cut(index: Path) -> bytes:
    return index.read_bytes()[:1000]


@pytest.mark.parametrize("kind", ["cut", "text", "empty", "other width", "head"])
def test_a_voice_whose_index_cannot_serve_runs_without_it_and_every_command_says_why(
    with_encoder: Rvcd, voices: Path, weights: TestWeightPaths, kind: str
) -> None:
    put(voices, "anna", weights.voice_v2)
    index = voices / "anna" / "anna.index"
    content = {"cut": cut(weights.index_v2), "text": b"hello", "empty": b"", "other width": INDEX_V1.read_bytes()}
    index.write_bytes(content.get(kind, b"IwFl"))
    said = f"runs without its index: {index}: "
    for command in (("check",), ("list",), ("list", "--json"), ("info", "anna"), ("info", "anna", "--json")):
        code, out, err = with_encoder(*command)
        assert code == 0, command
        assert (out + err).count(said) == 1, command
    assert lines(with_encoder("check")[1])["anna"][0] == "note"


def test_harmless_objects_in_a_voice_are_a_note_of_info_check_and_import(
    with_encoder: Rvcd, voices: Path, weights: TestWeightPaths, tmp_path: Path
) -> None:
    odd = tmp_path / "odd.pth"
    torch.save({**torch.load(weights.voice_v2, weights_only=True), "trained_in": Path("/home/x")}, odd, pickle_protocol=4)
    for command in (("info", odd), ("info", odd, "--json"), ("check", odd), ("import", odd)):
        code, out, err = with_encoder(*command)
        assert code == 0, command
        assert (out + err).count("holds Python objects beside its tensors (pathlib.") == 1, command
    assert lines(with_encoder("check", "odd")[1])["odd"][0] == "note"


def test_equal_voices_are_noted_and_files_that_were_passed_over_too(
    with_encoder: Rvcd, voices: Path, weights: TestWeightPaths
) -> None:
    put(voices, "anna", weights.voice_v2, toml="slot = 1")
    put(voices, "copy", weights.voice_v2, toml="slot = 1")
    code, out, err = with_encoder("check")
    assert code == 0
    assert lines(out)["copy"][0] == "note"
    assert lines(out)["copy"][1].startswith("has the same content as 'anna'; one of them can go; v2, 40000 Hz")
    assert "slot: 1 is also the slot of 'anna'" in err


def test_many_equal_voices_have_a_short_line_each(voices: Path) -> None:
    entries = []
    for number in range(60):
        (voices / f"v{number}.pth").write_bytes(b"the same")
        entries.append(VoiceEntry(number + 1, f"v{number}", voices / f"v{number}.pth", None))
    assert find_twins(entries) == {entry.path: "v0" for entry in entries[1:]}
    assert len(check_voice(Settings(), entries[-1], "v0").text) < 500


def test_chosen_voices_are_checked_alone_and_for_scripts(
    with_encoder: Rvcd, voices: Path, weights: TestWeightPaths, tmp_path: Path
) -> None:
    put(voices, "bad", weights.voice_v2, toml="slot = 0")
    anna = put(voices, "anna", weights.voice_v2, weights.index_v2)
    code, out, err = with_encoder("check", "--json", "anna", anna, anna.parent)
    assert (code, err) == (0, "")
    assert [report["path"] for report in json.loads(out)] == [str(anna)] * 3
    code, out, _ = with_encoder("check", "--json", "bad")
    (report,) = json.loads(out)
    assert code == 1 and report["level"] == "fail"
    assert [finding["level"] for finding in report["findings"]] == ["fail", "ok"]
    assert with_encoder("check", "nobody")[0] == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no voice" in with_encoder("check", f"{empty}/")[2]


def test_without_a_content_encoder_voices_are_checked_all_the_same(rvcd: Rvcd, voices: Path) -> None:
    put(voices, "anna", V2, INDEX_V2)
    code, out, err = rvcd("check")
    assert code == 0 and lines(out)["anna"][0] == "ok"
    assert "there is no content encoder for others' voices" in err


def test_an_encoder_that_is_none_is_one_sentence(rvcd: Rvcd, voices: Path, tmp_path: Path) -> None:
    put(voices, "anna", V2)
    with (tmp_path / "rvcd.toml").open("a") as file:
        file.write(f'[models]\ncontent_encoder = "{V2}"\n')
    code, out, err = rvcd("check")
    assert (code, out) == (1, "") and "is an RVC voice, not a content encoder" in err and err.count("\n") == 1


# ---- import


def test_import_says_what_it_did_and_what_comes_next(with_encoder: Rvcd, voices: Path) -> None:
    code, out, err = with_encoder("import", V2, INDEX_V2, "--name", "Anna B", "--slot", "5", "--gain", "-3")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "imported    Anna B: v2, 40000 Hz, speakers: 4, an index of 600 vectors"
    assert str(voices / "Anna B") in out
    assert "rvcctl voice rescan && rvcctl voice 'Anna B'" in out
    assert with_encoder("list")[1].splitlines()[1].split("\t")[:4] == ["5", "Anna B", "Anna B.index", "-3 dB"]
    checked = with_encoder("check", voices / "Anna B" / "Anna B.pth")[1]
    assert "the voice takes width 768" in checked  # the encoder of this test makes 64 and 32


@pytest.mark.parametrize("name", ["Anna B", "7", "rescan", "-x"])
def test_the_two_commands_that_import_prints_reach_the_daemon_and_mean_the_voice(rvcd: Rvcd, tmp_path: Path, name: str) -> None:
    with running_daemon() as daemon, (tmp_path / "rvcd.toml").open("a") as file:
        file.write(f"[osc]\nport = {daemon.port}\n")
        file.flush()
        daemon.voices.append(name)
        code, out, _ = rvcd("import", V2, f"--name={name}")
        assert code == 0
        (printed,) = re.findall(r"(?m)^use it +(.*)$", out)
        for command in printed.split(" && "):
            program, *arguments = shlex.split(command)
            assert program == "rvcctl"
            subprocess.run([sys.executable, "-c", RVCCTL, *arguments], capture_output=True, timeout=60)
        sent = [(message.address, *message.args) for message in daemon.received]
        assert [message for message in sent if message in (("/rvc/voice/rescan",), ("/rvc/voice", name))] == [
            ("/rvc/voice/rescan",), ("/rvc/voice", name),
        ]  # fmt: skip


def test_the_check_that_import_prints_is_run_with_the_same_configuration(rvcd: Rvcd, tmp_path: Path) -> None:
    other = tmp_path / "my rvcd.toml"
    other.write_text('[voices]\nfolders = ["voices"]\n')
    out = rvcd("import", V2, "--name", "Anna", "--config", other)[1]
    assert f"rvcd voice check {tmp_path / 'voices' / 'Anna' / 'Anna.pth'} --config '{other}'\n" in out


def test_a_home_that_is_not_there_is_one_line(rvcd: Rvcd) -> None:
    for arguments in (
        ("import", "~no-such-user/x.pth"),
        ("import", V2, "--to", "~no-such-user"),
        ("info", "~no-such-user/x.pth"),
    ):
        code, _, err = rvcd(*arguments)
        assert code == 1 and "that home folder is not known" in err and err.count("\n") == 1


def test_import_warns_where_the_voice_would_not_be_listed(rvcd: Rvcd, tmp_path: Path) -> None:
    code, _, err = rvcd("import", V2, "--to", tmp_path / "elsewhere")
    assert code == 0
    assert f"note: {tmp_path / 'elsewhere'} is not one of voices.folders: add it to your configuration" in err
    assert "note: there is no content encoder for others' voices" in err
    assert (tmp_path / "elsewhere" / "v2_40k_f0" / "v2_40k_f0.pth").is_file()


def test_a_refused_import_is_one_line_and_exits_with_1(rvcd: Rvcd, voices: Path, tmp_path: Path) -> None:
    assert rvcd("import", V2)[0] == 0
    assert rvcd("import", V2) == (
        1, "", f"rvcd: {voices / 'v2_40k_f0'}: exists already; --force replaces it, --name chooses another name\n",
    )  # fmt: skip
    assert rvcd("import", V2, "--force")[0] == 0
    assert rvcd("import", V1, "--name", "../x")[0] == 1
    assert "the voice's gain_db: 99" in rvcd("import", V1, "--gain", "99")[2]
    (tmp_path / "rvcd.toml").write_text("[voices]\nfolders = []\n")
    assert "voices.folders is empty: name a folder with --to" in rvcd("import", V1)[2]
    assert rvcd("import")[0] == 2


# ---- encoders


def test_a_voice_whose_encoder_is_not_there_says_how_to_get_it_in_every_command(
    with_encoder: Rvcd, voices: Path, weights: TestWeightPaths, tmp_path: Path
) -> None:
    spin = tmp_path / "Spin.pth"
    torch.save({**torch.load(weights.voice_v2, weights_only=True), "embedder_model": "spin-v2"}, spin)
    said = "was trained with the content encoder 'spin-v2', which is not here: `rvcd assets fetch spin-v2` gets it"
    for code, command in ((0, ("import", spin)), (0, ("info", "Spin")), (0, ("info", "Spin", "--json")), (1, ("check", "Spin"))):
        ended, out, err = with_encoder(*command)
        assert ended == code, command
        assert (out + err).count(said) == 1, command
    with (tmp_path / "rvcd.toml").open("a") as file:
        file.write(f'[encoders]\nspin-v2 = "{weights.encoder}"\n')
    code, out, err = with_encoder("check", "Spin")
    assert (code, lines(out)["Spin"][0], err) == (0, "ok", "")
    assert f"encoder     spin-v2 ({weights.encoder})" in with_encoder("info", "Spin")[1]


# ---- import from an address


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as web:
        yield web


def packed_voice(tmp_path: Path) -> bytes:
    path = tmp_path / "Anna.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(V2, "Anna/Anna.pth")
        archive.write(INDEX_V2, "Anna/added_IVF8_Flat_nprobe_1_Anna_v2.index")
    return path.read_bytes()


def test_a_voice_is_imported_from_an_address(rvcd: Rvcd, voices: Path, server: WebServer, tmp_path: Path) -> None:
    url = server.serve("/Anna.zip", whole(packed_voice(tmp_path)))
    code, out, err = rvcd("import", url, "--allow-private")
    assert (code, out.splitlines()[0]) == (0, "imported    Anna: v2, 40000 Hz, speakers: 4, an index of 600 vectors"), err
    assert err.startswith("getting Anna.zip, ")
    assert sorted(os.listdir(voices)) == ["Anna"]
    assert sorted(os.listdir(voices / "Anna")) == ["Anna.index", "Anna.pth", "voice.toml"]


def test_a_pth_and_its_index_come_from_two_addresses(rvcd: Rvcd, voices: Path, server: WebServer) -> None:
    pth = server.serve("/models/Anna.pth", whole(V2.read_bytes()))
    index = server.serve("/models/added_x.index", whole(INDEX_V2.read_bytes()))
    code, _, err = rvcd("import", pth, index, "--allow-private", "--name", "Anna B")
    assert code == 0, err
    assert sorted(os.listdir(voices / "Anna B")) == ["Anna B.index", "Anna B.pth", "voice.toml"]


@pytest.mark.parametrize("options", [[], ["--allow-private"]])
@pytest.mark.parametrize(
    "content, said",
    [
        (b"<html>log in</html>", "is a web page, not a file"),
        (b"PK half a zip", "is not a whole zip archive"),
        (b"", "is empty; download or copy it again"),
    ],
)
def test_what_is_no_voice_leaves_everything_as_it_was(
    rvcd: Rvcd, voices: Path, server: WebServer, content: bytes, said: str, options: list[str]
) -> None:
    put(voices, "Anna", V1)
    before = {path: path.read_bytes() for path in voices.rglob("*") if path.is_file()}
    url = server.serve("/Anna.zip", whole(content))
    code, out, err = rvcd("import", url, "--force", *options)
    assert (code, out) == (1, "")
    sentence = err.splitlines()[-1]
    assert (said if options else "an address of this machine or of a private network") in sentence
    if options:
        assert sentence.startswith(f"rvcd: {url}: ")
    assert {path: path.read_bytes() for path in voices.rglob("*") if path.is_file()} == before
    assert sorted(os.listdir(voices)) == ["Anna"]
