"""Which encoder a voice gets: by voice.toml, by its file, by the configuration, by what was fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rvcd.config.settings import Settings, parse_config
from rvcd.voices.assets import ASSETS
from rvcd.voices.builtin_paths import BUILT_IN_ENCODER, BUILT_IN_VOICE
from rvcd.voices.configured import first_voice, scan_voices, voice_files
from rvcd.voices.encoders import choose_encoder, encoder_assets, encoder_of, encoder_problem, has_encoders
from rvcd.voices.registry import VoiceEntry

PARITY = Path(__file__).parent.parent / "data" / "parity"
VOICE, HUBERT = PARITY / "v2_40k_f0.pth", PARITY / "hubert_tiny_fairseq.pt"


@pytest.fixture
def make_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings with a models folder of their own. fetched: names of files in it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def make(*fetched: str, encoders: dict[str, str] | None = None, **models: Any) -> Settings:
        for name in fetched:
            path = tmp_path / "models" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        tables = {
            "models": {"folder": "models", **models}, "encoders": encoders or {}, "voices": {"folders": ["voices"]},
        }  # fmt: skip
        return parse_config(tables, tmp_path / "rvcd.toml")

    return make


def labelled(path: Path, **labels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**torch.load(VOICE, weights_only=True), **labels}, path)
    return path


@pytest.mark.parametrize("name", ["", "contentvec", "ContentVec_base", "hubert_base", "hubert-base768", "contentvec256"])
def test_most_voices_mean_the_configured_encoder(make_settings: Any, name: str) -> None:
    choice = choose_encoder(make_settings(content_encoder=str(HUBERT)), name)
    assert (choice.path, choice.problem, choice.usual) == (str(HUBERT), "", True)


def test_the_configured_encoder_is_found_once_it_was_fetched(make_settings: Any, tmp_path: Path) -> None:
    choice = choose_encoder(make_settings(), "")
    assert choice.problem == "needs the content encoder of RVC voices, which is not here: `rvcd assets fetch` gets it"
    assert choose_encoder(make_settings("hubert_base.pt"), "").path == str(tmp_path / "models/hubert_base.pt")


@pytest.mark.parametrize(
    ("name", "asset"),
    [
        ("spin", "spin"), ("spin-v1", "spin"), ("spin-v2", "spin-v2"), ("Spin_V2", "spin-v2"),
        ("japanese-hubert-base", "japanese-hubert-base"), ("hubert-base-japanese", "japanese-hubert-base"),
        ("hubert_base_japanese768", "japanese-hubert-base"), ("chinese-hubert-base", "chinese-hubert-base"),
        ("korean-hubert-base", "korean-hubert-base"),
    ],
)  # fmt: skip
def test_a_published_encoder_is_found_once_it_was_fetched(make_settings: Any, tmp_path: Path, name: str, asset: str) -> None:
    choice = choose_encoder(make_settings(), name)
    assert choice.problem == (
        f"was trained with the content encoder '{name}', which is not here: "
        f"`rvcd assets fetch {asset}` gets it, or name its file in [encoders]"
    )
    choice = choose_encoder(make_settings(f"{asset}/pytorch_model.bin"), name)
    assert (choice.path, choice.problem) == (str(tmp_path / "models" / asset), "")


def test_every_name_of_the_published_encoders_has_its_asset() -> None:
    assert [asset.name for asset in encoder_assets()] == [asset.name for asset in ASSETS][2:]


def test_the_configuration_comes_before_everything(make_settings: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.pt").touch()
    settings = make_settings("spin/pytorch_model.bin", "hubert_base.pt", encoders={"spin": "mine.pt", "hubert-base": "mine.pt"})
    assert {choose_encoder(settings, name).path for name in ("spin", "SPIN", "hubert_base")} == {str(tmp_path / "mine.pt")}
    assert choose_encoder(settings, "contentvec").path == str(tmp_path / "models/hubert_base.pt")
    choice = choose_encoder(make_settings(encoders={"spin": "gone.pt"}), "spin")
    assert choice.problem == f"encoders.spin: {tmp_path / 'gone.pt'} does not exist; correct it in the configuration"


def test_an_unknown_name_says_what_to_write(make_settings: Any) -> None:
    choice = choose_encoder(make_settings("hubert_base.pt"), "custom")
    assert (
        "'custom', which is unknown here; give its file a name in [encoders], and the voice that name as encoder"
        in choice.problem
    )
    assert "if 'japanese-hubert-base' is meant" in choose_encoder(make_settings(), "japanese-hubert-bass").problem


def test_rvcds_own_encoder_is_there_in_any_case(make_settings: Any) -> None:
    assert choose_encoder(make_settings(), "rvcd-envelope").path == str(BUILT_IN_ENCODER)


@pytest.mark.parametrize("word", ["test", "built-in"])
def test_an_encoder_that_was_chosen_on_purpose_stays(make_settings: Any, word: str) -> None:
    choice = choose_encoder(make_settings("hubert_base.pt", content_encoder=word), "")
    assert (choice.path, choice.problem, choice.usual) == ("", "", True)


@pytest.mark.parametrize(("key", "label"), [("embedder_model", "spin"), ("embedder_name", "spin")])
def test_a_voices_file_names_its_encoder_and_voice_toml_comes_first(
    make_settings: Any, tmp_path: Path, key: str, label: str
) -> None:
    path = labelled(tmp_path / "voices/Anna/Anna.pth", **{key: label})
    settings = make_settings("hubert_base.pt", "spin/pytorch_model.bin", "spin-v2/pytorch_model.bin")
    anna = scan_voices(settings).find("Anna")
    assert encoder_of(settings, anna).path == str(tmp_path / "models/spin")
    assert voice_files(settings, anna).encoder == str(tmp_path / "models/spin")
    (path.parent / "voice.toml").write_text('encoder = "spin-v2"\n')
    assert voice_files(settings, scan_voices(settings).find("Anna")).encoder == str(tmp_path / "models/spin-v2")
    before = voice_files(settings, scan_voices(settings).find("Anna"))
    (tmp_path / "models/spin-v2/pytorch_model.bin").write_bytes(b"another encoder")
    assert voice_files(settings, scan_voices(settings).find("Anna")).identity != before.identity
    (tmp_path / "models/spin-v2/pytorch_model.bin").unlink()
    files = voice_files(settings, scan_voices(settings).find("Anna"))
    assert files.encoder == "" and files.problem.startswith(
        f"{path}: was trained with the content encoder 'spin-v2', which is not"
    )


def test_a_file_that_is_no_voice_gets_the_usual_encoder_and_is_refused_by_whoever_loads_it(
    make_settings: Any, tmp_path: Path
) -> None:
    (tmp_path / "x.pth").write_text("hello")
    settings = make_settings("hubert_base.pt")
    assert encoder_of(settings, VoiceEntry(1, "x", tmp_path / "x.pth", None)).path == str(tmp_path / "models/hubert_base.pt")


def test_what_does_not_go_together_is_said_by_the_headers(make_settings: Any) -> None:
    choice = choose_encoder(make_settings(content_encoder=str(HUBERT)), "")
    assert encoder_problem(choice, VOICE, 48, 0) == ""
    assert encoder_problem(choice, VOICE, 768, 0).startswith(
        f"{VOICE}: does not go with its content encoder: {HUBERT}: makes units"
    )


# ---- which voices there are


def test_the_built_in_voice_is_there_beside_others_and_behind_them(make_settings: Any, tmp_path: Path) -> None:
    labelled(tmp_path / "voices/Anna.pth")
    settings = make_settings("hubert_base.pt")
    registry = scan_voices(settings)
    assert [(entry.slot, entry.name) for entry in registry.entries] == [(1, "Anna"), (999, BUILT_IN_VOICE)]
    assert voice_files(settings, registry.find(BUILT_IN_VOICE)).encoder == str(BUILT_IN_ENCODER)
    first = first_voice(settings, registry, "")
    assert first is not None and first.name == "Anna"


def test_the_built_in_voice_yields_its_slot_and_its_name(make_settings: Any, tmp_path: Path) -> None:
    labelled(tmp_path / "voices/Anna/Anna.pth")
    (tmp_path / "voices/Anna/voice.toml").write_text("slot = 999\n")
    settings = make_settings("hubert_base.pt")
    assert [(entry.slot, entry.name) for entry in scan_voices(settings).entries] == [(998, BUILT_IN_VOICE), (999, "Anna")]
    own = labelled(tmp_path / f"voices/{BUILT_IN_VOICE}.pth")
    assert [entry.path for entry in scan_voices(settings).entries if entry.name == BUILT_IN_VOICE] == [own]


def test_without_any_encoder_for_others_only_the_built_in_voice_is_there(make_settings: Any, tmp_path: Path) -> None:
    labelled(tmp_path / "voices/Anna.pth")
    settings = make_settings()
    assert not has_encoders(settings) and scan_voices(settings).names == (BUILT_IN_VOICE,)
    assert scan_voices(make_settings("hubert_base.pt", content_encoder="built-in")).names == (BUILT_IN_VOICE,)
    (tmp_path / "models/hubert_base.pt").unlink()
    for having in (make_settings("spin/pytorch_model.bin"), make_settings(encoders={"mine": "mine.pt"})):
        assert has_encoders(having) and scan_voices(having).names == ("Anna", BUILT_IN_VOICE)
