"""What a voice file is, without loading it: no torch, no network, no number of its weights read. Stdlib only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rvcd.errors import ModelFileError
from rvcd.formats import safetensors_header
from rvcd.formats.pickle_scan import TensorRef
from rvcd.formats.torch_file import Outline, read_outline
from rvcd.formats.voice_config import ConfigProblem, SynthesizerConfig, Vocoder, parse_config
from rvcd.formats.voice_shapes import expected_shapes

SOURCE_FILTER_KEY = "dec.net.mean"
"""By it rvcd's own decoder is known, of which there is one voice; so wide are its units."""
VOCODER_LABELS = (Vocoder.HIFIGAN, Vocoder.MRF, Vocoder.REFINEGAN)
"""What makers write; the two generations of RefineGAN have one label."""
VERSION_OF_WIDTH = {256: "v1", 768: "v2"}
LAYER_OF_WIDTH = {256: 9, 768: 12}
"""The layer of the content encoder that units of a width usually come from, as in RVC."""
MAX_LAYER = 64
MAX_TEXT = 80
NAMED_IN_ERRORS = 3
UNRELEASED_REFINEGAN = ("dec.source_conv.", "dec.filters.")
"""Where tensors begin that only the RefineGANs between two releases had."""
SO_VITS_KEYS = frozenset({"emb_uv.weight", "pre.weight", "enc_p.pre.weight", "enc_p.f0_emb.weight", "f0_decoder.prenet.weight"})
"""Tensors of so-vits-svc's generator that RVC's has not."""
ONLY_RVC = "rvcd runs RVC voices only: look for one of the same singer trained with RVC"


@dataclass(frozen=True)
class VoiceSpec:
    """What a voice is.

    name: the file's stem. version: "v1" or "v2", told by the unit width where that is 256 or 768, else by the label.
    epochs: the trainer's own words, "" if none. speaker_names: one for each speaker, "" for a nameless one.
    note: a sentence about what the file holds beside the voice, "" for nothing. embedder: the content encoder's name in the
    trainer's words, "" if it says none. unit_layer: of that encoder, from which the units come; 0: the usual one of their width.
    """

    path: Path
    name: str
    version: str
    rate_hz: int
    has_f0: bool
    speakers: int
    speaker_names: tuple[str, ...]
    unit_width: int
    epochs: str
    size_bytes: int
    vocoder: str
    embedder: str
    config: SynthesizerConfig
    note: str = ""
    unit_layer: int = 0


def read_voice_spec(path: Path | str) -> VoiceSpec:
    """Read a voice file's description. Raises ModelFileError with one sentence when it is not a usable RVC voice."""
    return voice_spec(voice_outline(Path(path)))


def voice_outline(path: Path) -> Outline:
    """Return what a voice's file holds, whichever of the formats it has. Raises ModelFileError."""
    return safetensors_header.read_voice_outline(path) if path.suffix.lower() == safetensors_header.SUFFIX else read_outline(path)


def voice_spec(outline: Outline) -> VoiceSpec:
    """Say what the outlined file is as a voice: shapes are trusted over labels. Raises ModelFileError."""
    path, root = outline.path, outline.root
    if not isinstance(root, dict) or not isinstance(root.get("weight"), dict) or "config" not in root:
        raise ModelFileError(f"{path}: {_what_else(root)}")
    if isinstance(root["config"], dict) and any(str(key).startswith("enc_p.text_embedding.") for key in root["weight"]):
        raise ModelFileError(f"{path}: is a GPT-SoVITS voice, which speaks text; rvcd converts speech with RVC voices only")
    embedder = root.get("embedder_model") or root.get("embedder_name") or ""
    shapes = _weight_shapes(path, root["weight"])
    n_speakers = _rows(path, shapes, "emb_g.weight", 0)
    is_source_filter = SOURCE_FILTER_KEY in shapes
    unit_width = _rows(path, shapes, *((SOURCE_FILTER_KEY, 0) if is_source_filter else ("enc_p.emb_phone.weight", 1)))
    unit_layer = _unit_layer(path, root.get("embedder_output_layer"), unit_width)
    vocoder = _vocoder(path, root.get("vocoder"), shapes)
    has_f0 = vocoder is not Vocoder.HIFIGAN or any(key.startswith("dec.m_source.") for key in shapes)
    try:
        config = parse_config(root["config"], n_speakers=n_speakers, unit_width=unit_width, has_f0=has_f0, vocoder=vocoder)
    except ConfigProblem as problem:
        raise ModelFileError(f"{path}: its config {problem}") from None
    _check_shapes(path, config, shapes)
    label = root.get("version")
    return VoiceSpec(
        path=path,
        name=path.stem,
        version=VERSION_OF_WIDTH.get(unit_width, label if label in ("v1", "v2") else "v1"),
        rate_hz=config.rate_hz,
        has_f0=has_f0,
        speakers=n_speakers,
        speaker_names=_speaker_names(root.get("speaker_info"), n_speakers),
        unit_width=unit_width,
        epochs=_epochs(root),
        size_bytes=outline.size_bytes,
        vocoder=vocoder.value,
        embedder=_text(embedder),
        config=config,
        note=outline.note,
        unit_layer=unit_layer,
    )


def upstream_key(key: str) -> str:
    """Return the key as RVC writes it: newer torch stores weight norm under parametrizations."""
    for theirs, ours in (("original0", "weight_g"), ("original1", "weight_v")):
        tail = f".parametrizations.weight.{theirs}"
        if key.endswith(tail):
            return f"{key[: -len(tail)]}.{ours}"
    return key


def is_voice_key(key: str) -> bool:
    """Say whether a tensor is used to convert; the posterior encoder serves training only."""
    return not key.startswith("enc_q.")


def plain_name(name: str) -> str:
    """Return an encoder's name as it is compared: without case, dashes and the like, and the width of its units behind it."""
    plain = _plain(name)
    for width in VERSION_OF_WIDTH:
        plain = plain.removesuffix(str(width))  # "contentvec768"
    return plain


def _vocoder(path: Path, label: Any, shapes: Mapping[str, tuple[int, ...]]) -> Vocoder:
    """Say what decodes: a known label is needed, the tensors decide. Raises ModelFileError for what rvcd has not."""
    if SOURCE_FILTER_KEY in shapes:
        return Vocoder.SOURCE_FILTER
    known = [vocoder.value for vocoder in VOCODER_LABELS]
    if label and (not isinstance(label, str) or _plain(label) not in [_plain(name) for name in known]):
        raise ModelFileError(
            f"{path}: was trained with the vocoder {_text(label)!r}; rvcd runs {', '.join(known[:-1])} and {known[-1]} only"
        )
    for key in shapes:
        if key.startswith(UNRELEASED_REFINEGAN):
            raise ModelFileError(
                f"{path}: was trained with a RefineGAN of Applio's development that was never released (it has {_text(key)}); "
                "train it again with a release of Applio"
            )
    if any(key.startswith("dec.mrfs.") for key in shapes):
        return Vocoder.MRF
    if any(key.startswith("dec.upsample_conv_blocks.") for key in shapes):
        width = _rows(path, shapes, "dec.upsample_conv_blocks.0.input_conv.bias", 0)
        first = shapes.get("dec.pre_conv.weight_v") or shapes.get("dec.pre_conv.weight") or (0,)
        return Vocoder.REFINEGAN_329 if first[0] == width else Vocoder.REFINEGAN
    return Vocoder.HIFIGAN


def _unit_layer(path: Path, layer: Any, unit_width: int) -> int:
    """Return the layer of the content encoder that the units come from, 0 for the usual one of their width."""
    if layer is None:
        return 0
    number = int(layer) if isinstance(layer, str) and layer.isdecimal() and len(layer) < 4 else layer
    if type(number) is not int or not 1 <= number <= MAX_LAYER:
        raise ModelFileError(
            f"{path}: takes the units of layer {_text(layer)!r} of its content encoder, which is none of 1..{MAX_LAYER}"
        )
    return 0 if number == LAYER_OF_WIDTH.get(unit_width) else number


def _weight_shapes(path: Path, weight: Mapping[Any, Any]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for key, value in weight.items():
        if not isinstance(key, str) or not isinstance(value, TensorRef):
            raise ModelFileError(f"{path}: is not an RVC voice: {_text(key)!r} in its weights is not a tensor")
        if not is_voice_key(key):
            continue
        if not value.is_floating:
            raise ModelFileError(f"{path}: is not an RVC voice: {_text(key)!r} in its weights holds whole numbers")
        shapes[upstream_key(key)] = value.shape
    return shapes


def _rows(path: Path, shapes: Mapping[str, tuple[int, ...]], key: str, axis: int) -> int:
    shape = shapes.get(key)
    if not shape or axis >= len(shape) or not all(shape):
        raise ModelFileError(f"{path}: is not an RVC voice: its weights have no usable {key}")
    return shape[axis]


def _check_shapes(path: Path, config: SynthesizerConfig, shapes: Mapping[str, tuple[int, ...]]) -> None:
    relative = shapes.get("enc_p.encoder.attn_layers.0.emb_rel_k", ())
    window = (relative[1] - 1) // 2 if len(relative) == 3 else 10
    expected = expected_shapes(config, shapes, window)
    missing = [key for key in expected if key not in shapes]
    unexpected = [key for key in shapes if key not in expected]
    misshaped = [
        f"{key} is {_sizes(shapes[key])}, not {_sizes(shape)}"
        for key, shape in expected.items()
        if key in shapes and shapes[key] != shape
    ]
    problems = [
        f"{title} {', '.join(_text(key) for key in keys[:NAMED_IN_ERRORS])}"
        + (f" and {len(keys) - NAMED_IN_ERRORS} more" if len(keys) > NAMED_IN_ERRORS else "")
        for title, keys in (("missing", missing), ("unexpected", unexpected), ("of another size:", misshaped))
        if keys
    ]
    if problems:
        raise ModelFileError(f"{path}: its weights do not fit its config: {'; '.join(problems)}")


def _what_else(root: Any) -> str:
    """Say what a file is that is not a voice, and what to do."""
    if not isinstance(root, dict):
        kind = "single tensor" if isinstance(root, TensorRef) else type(root).__name__
        return f"is not an RVC voice: it holds a {kind}, not a voice's 'weight' and 'config'"
    keys = {key for key in root if isinstance(key, str)}
    model = root.get("model")
    inside = {key for key in model if isinstance(key, str)} if isinstance(model, dict) else set()
    if inside & SO_VITS_KEYS:
        return f"is a so-vits-svc model, not an RVC voice; {ONLY_RVC}"
    if any(key.startswith("unit2ctrl.") for key in inside):
        return f"is a DDSP-SVC model, not an RVC voice; {ONLY_RVC}"
    if "enc_p.emb.weight" in inside:
        return f"is a VITS model, which speaks text, not an RVC voice; {ONLY_RVC}"
    if "model" in keys and keys & {"optimizer", "learning_rate", "iteration"}:
        if "optimizer" in keys and not root["optimizer"] and inside:
            return (
                "is a checkpoint without its optimizer, as so-vits-svc publishes its models, not an RVC voice; "
                f"{ONLY_RVC}, or, if RVC trained it, export it there with the model extraction"
            )
        return (
            "is a training checkpoint, not a voice: export it with the trainer's model extraction, "
            "or use the small .pth that the trainer writes beside the logs (RVC: assets/weights)"
        )
    if "model" in keys and keys & {"args", "cfg", "task_state"}:
        return "is a fairseq content encoder, not a voice: name it as models.content_encoder and choose a voice's .pth"
    if any(key.startswith(("unet.encoder.", "encoder.layers.")) for key in keys):
        return "is a shared network (a pitch estimator or a content encoder), not a voice: choose a voice's .pth"
    if any(key.startswith(("enc_p.", "dec.", "module.enc_p.")) for key in keys):
        return "holds a voice's weights without their 'config': use the .pth that the trainer exported"
    return "is not an RVC voice: it has no 'weight' and 'config'"


def _epochs(root: Mapping[Any, Any]) -> str:
    info, epoch = root.get("info"), root.get("epoch")
    if isinstance(info, str) and info.strip():
        return _text(info)
    return f"{epoch}epoch" if type(epoch) is int and 0 <= epoch < 1 << 31 else ""


def _speaker_names(info: Any, speakers: int) -> tuple[str, ...]:
    """Return the names by number. Trainers write [{"id": 0, "name": "Anna"}], {"0": "Anna"}, {"Anna": 0} or ["Anna"]."""
    names = [""] * speakers
    for number, name in _numbered(info):
        at = int(number) if isinstance(number, str) and number.isdecimal() and len(number) < 6 else number
        if type(at) is int and 0 <= at < speakers and isinstance(name, str):
            names[at] = _text(name)
    return tuple(names)


def _numbered(info: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(info, dict):
        for key, value in info.items():
            if type(value) is int:
                yield value, key
            else:
                yield key, value.get("name") if isinstance(value, dict) else value
    elif isinstance(info, (list, tuple)):
        if all(isinstance(item, str) for item in info):
            yield from enumerate(info)
        yield from ((item.get("id"), item.get("name")) for item in info if isinstance(item, dict))


def _text(value: Any) -> str:
    """Return a value of the file fit to print on one line."""
    shown = (
        value if isinstance(value, str) else repr(value) if isinstance(value, (int, float, type(None))) else type(value).__name__
    )
    return "".join(c if c.isprintable() else " " for c in shown[:MAX_TEXT]).strip()


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
