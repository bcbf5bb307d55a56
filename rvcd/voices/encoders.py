"""Which content encoder a voice was trained with, and where it lies: voice.toml or the trainer names it, settings place it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rvcd.config.settings import BUILT_IN, TEST_WEIGHTS, Settings
from rvcd.errors import ModelFileError, RvcdError
from rvcd.formats.contentvec_header import check_units, weights_of
from rvcd.formats.voice_header import plain_name, read_voice_spec
from rvcd.voices.assets import ASSETS, Asset
from rvcd.voices.builtin_paths import BUILT_IN_ENCODER
from rvcd.voices.registry import VoiceEntry

USUAL = ("contentvec", "contentvecbase", "hubertbase", "hubert")
"""What trainers call the encoder of models.content_encoder, in plain_name's form; most say nothing."""
OWN = "rvcdenvelope"
OTHER_NAMES: Mapping[str, str] = {
    "spinv1": "spin", "hubertbasejapanese": "japanesehubertbase", "hubertbasechinese": "chinesehubertbase",
    "hubertbasekorean": "koreanhubertbase",
}  # fmt: skip
"""Names of the same encoders in other trainers."""
KEY = "encoders."
"""Before the name of an asset that is an encoder."""


@dataclass(frozen=True)
class EncoderChoice:
    """name: as voice.toml or the trainer has it, "" for none. path "": the setup's own. usual: models.content_encoder is meant.

    problem: why there is none, and what to do; "" where there is one.
    """

    name: str
    path: str = ""
    problem: str = ""
    usual: bool = False


def choose_encoder(settings: Settings, name: str) -> EncoderChoice:
    """Return the encoder of a name; "": the usual one. Looks at the disk.

    What [encoders] names comes first, then models.content_encoder and rvcd's own for their names, then what was fetched.
    """
    plain = _plain(name)
    for key, path in settings.encoders.files.items():
        if _plain(key) == plain:
            there = weights_of(Path(path)).is_file()
            return EncoderChoice(
                name, path, "" if there else f"encoders.{key}: {path} does not exist; correct it in the configuration"
            )
    if plain == OWN:
        return EncoderChoice(name, str(BUILT_IN_ENCODER))
    if not plain or plain in USUAL:
        return _usual(settings, name)
    asset = next((asset for asset in encoder_assets() if _plain(asset.name) == plain), None)
    if asset is None:
        return EncoderChoice(
            name, problem=f"was trained with the content encoder '{name}', which is unknown here; {_advice(name)}"
        )
    if path := fetched_encoder(settings, asset):
        return EncoderChoice(name, path)
    how = f"`rvcd assets fetch {asset.name}` gets it, or name its file in [encoders]"
    return EncoderChoice(name, problem=f"was trained with the content encoder '{name}', which is not here: {how}")


def encoder_of(settings: Settings, entry: VoiceEntry) -> EncoderChoice:
    """Return a voice's encoder: its voice.toml's, else what its file says. Reads the file's header; raises nothing.

    A file that cannot be read gets the usual encoder: what is wrong with it is said by whoever loads it.
    """
    name = entry.encoder
    if not name:
        try:
            name = read_voice_spec(entry.path).embedder
        except ModelFileError:
            name = ""
    return choose_encoder(settings, name)


def encoder_problem(choice: EncoderChoice, path: Path, unit_width: int, unit_layer: int) -> str:
    """Return why a voice does not go with its encoder, "" where nothing speaks against it. Reads the encoder's header."""
    if choice.problem:
        return f"{path}: {choice.problem}"
    try:
        if choice.path:
            check_units(choice.path, unit_width, unit_layer)
    except ModelFileError as error:
        return f"{path}: does not go with its content encoder: {error}"
    return ""


def encoder_assets() -> tuple[Asset, ...]:
    """Return the assets that are encoders with a name of their own."""
    return tuple(asset for asset in ASSETS if asset.key.startswith(KEY))


def fetched_encoder(settings: Settings, asset: Asset) -> str:
    """Return where a fetched encoder lies, "" where it was not fetched."""
    try:
        folder = settings.models.fetched_folder / Path(asset.weights.path).parent
    except RvcdError:
        return ""  # without a home folder there is nothing in it
    return str(folder) if weights_of(folder).is_file() else ""


def has_encoders(settings: Settings) -> bool:
    """Say whether there is any encoder for voices made by others."""
    named = settings.models.real_encoder or settings.encoders.files
    return bool(named) or any(fetched_encoder(settings, asset) for asset in encoder_assets())


def _usual(settings: Settings, name: str) -> EncoderChoice:
    models = settings.models
    if models.content_encoder in (TEST_WEIGHTS, BUILT_IN):
        return EncoderChoice(name, usual=True)  # on purpose: the worker says what does not go with it
    if path := models.real_encoder:
        return EncoderChoice(name, path, usual=True)
    return EncoderChoice(
        name, problem="needs the content encoder of RVC voices, which is not here: `rvcd assets fetch` gets it", usual=True
    )


def _advice(name: str) -> str:
    known = [asset.name for asset in encoder_assets()]
    close = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.8)
    hint = f"if '{close[0]}' is meant, write that as encoder in its voice.toml; otherwise " if close else ""
    return f"{hint}give its file a name in [encoders], and the voice that name as encoder in its voice.toml"


def _plain(name: str) -> str:
    plain = plain_name(name)
    return OTHER_NAMES.get(plain, plain)
