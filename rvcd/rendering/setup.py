"""From the configuration and a command line to what decides how a file sounds. No torch: the batch's own process does this."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from rvcd.config.settings import Settings
from rvcd.errors import ParamError, RvcdError
from rvcd.params import BY_NAME, VOICE_PARAMS, ParamStore
from rvcd.protocol import PITCH_AUTO, PITCH_MANUAL, PITCH_MODES
from rvcd.rendering.messages import RenderSetup
from rvcd.voices.configured import model_setup, named_voice, voice_files
from rvcd.voices.registry import VoiceEntry

MAX_VOICES = 8
"""Channels of one file that may each be a voice: every one has a stream of its own in memory."""
LOWEST_LUFS, HIGHEST_LUFS = -60.0, -5.0
METHOD = 1
"""Goes up when a file would come out different from the same settings: what was rendered before counts as stale then."""
HASH_BYTES = 16
AT = {param.name: number for number, param in enumerate(VOICE_PARAMS)}
TUNE = BY_NAME["autotune"].group
READ_BYTES = 2**20


def render_setup(
    settings: Settings,
    *,
    voice: str = "",
    index: str = "",
    f0_method: str = "",
    rate_hz: int = 0,
    params: Mapping[str, float | str] | None = None,
    channels: str = "1",
    loudness_lufs: float | None = None,
    threads: int = 0,
    pitch_mode: str = PITCH_MANUAL,
) -> RenderSetup:
    """Return the setup. params: live parameters that replace the voice's own and the configured ones. pitch_mode "": as
    configured, where a voice without a register is transposed by `pitch` alone, and a note says so.

    Raises RvcdError for a voice, a parameter or a number that cannot be.
    """
    entry = named_voice(settings, voice, index)
    if entry is None:
        folders = ", ".join(settings.voices.folders)
        raise ParamError(f"there is no voice: put a .pth file into {folders}, or name one with --voice FILE.pth")
    store = ParamStore(settings.initial_params())
    for name, value in {**entry.params, **(params or {})}.items():
        store.set(name, value)
    check_channels(channels)
    if pitch_mode and pitch_mode not in PITCH_MODES:
        raise ParamError(f"--pitch-mode {pitch_mode}: takes {' or '.join(PITCH_MODES)}")
    notes: tuple[str, ...] = ()
    register_hz = entry.f0_median_hz if (pitch_mode or settings.engine.pitch_mode) == PITCH_AUTO else 0.0
    if (pitch_mode or settings.engine.pitch_mode) == PITCH_AUTO and not register_hz:
        problem = (
            f"{entry.name} has no register (f0_median_hz in its voice.toml); "
            f"`rvcd voice register '{entry.name}' --sample FILE` measures it"
        )
        if pitch_mode:
            raise ParamError(f"--pitch-mode auto: {problem}")
        notes = (f"engine.pitch_mode is auto, but {problem}; until then only pitch transposes it",)
    if register_hz and "pitch" not in (params or {}):
        store.set("pitch", 0.0)  # the voice's and the configuration's are meant for manual
    if loudness_lufs is not None and not LOWEST_LUFS <= loudness_lufs <= HIGHEST_LUFS:
        raise ParamError(f"--loudness {loudness_lufs:g}: takes {LOWEST_LUFS:g}..{HIGHEST_LUFS:g} LUFS, for example -16")
    made = _setup(settings, entry, f0_method, store, rate_hz, channels, loudness_lufs, bool(index), threads)
    return msgspec.structs.replace(made, register_hz=register_hz, notes=notes)


def _setup(
    settings: Settings, entry: VoiceEntry, f0_method: str, store: ParamStore, rate_hz: int, channels: str,
    loudness_lufs: float | None, index_wanted: bool, threads: int,
) -> RenderSetup:  # fmt: skip
    models = model_setup(settings)
    return RenderSetup(
        models=models,
        voice=voice_files(settings, entry),
        speaker=entry.speaker,
        f0_method=f0_method or settings.engine.f0_method,
        params=store.snapshot().values(),
        rate_hz=rate_hz,
        channels=channels,
        loudness_lufs=loudness_lufs,
        index_wanted=index_wanted,
        threads=models.threads or threads,
    )


def check_channels(channels: str) -> None:
    """Raise ParamError for what --channels does not take."""
    if channels != "keep" and not (channels.isdigit() and 1 <= int(channels) <= MAX_VOICES):
        raise ParamError(f"--channels {channels}: takes 1 (mixed into one voice), keep (each a voice), or 2..{MAX_VOICES}")


def settings_hash(setup: RenderSetup) -> str:
    """Return a short text that changes with everything that decides how a file sounds, the contents of the models included.

    Not with the number of threads, nor with where the models lie. Raises RvcdError for a model that cannot be read.
    """
    models, voice = setup.models, setup.voice
    files = [voice.path, voice.index, voice.encoder or models.encoder, models.rmvpe if setup.f0_method == "rmvpe" else ""]
    if models.test_weights_cache:  # written when they are first needed, always the same
        files = []
    said = msgspec.to_builtins(setup)
    for name in ("path", "index", "identity", "encoder", "problem", "f0_median_hz"):
        del said["voice"][name]
    for name in ("encoder", "rmvpe", "threads", "keep_loaded", "test_weights_cache", "ways_file"):
        del said["models"][name]
    del said["threads"], said["notes"]
    if not setup.params[AT["autotune"]]:  # then nothing that it goes by is heard, and what was rendered before it is as good
        said["params"] = [value for value, param in zip(setup.params, VOICE_PARAMS, strict=True) if param.group != TUNE]
        del said["models"]["a4_hz"]
    if not setup.register_hz:
        del said["register_hz"]  # what was rendered before there was one is as good
    said["files"] = [content_hash(Path(name)) if name else "" for name in files]
    said["method"] = METHOD
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=HASH_BYTES).hexdigest()


def content_hash(path: Path, between: Callable[[], None] = lambda: None) -> str:
    """Return the BLAKE2b hash of a file's content; of a folder's, of all the files in it. between: called now and then.

    Raises RvcdError for a file that cannot be read.
    """
    found = hashlib.blake2b(digest_size=HASH_BYTES)
    try:
        if path.is_dir():
            for below in sorted(path.rglob("*")):
                if below.is_file():
                    found.update(os.fsencode(below.relative_to(path)) + content_hash(below, between).encode())
            return found.hexdigest()
        with path.open("rb") as file:
            while piece := file.read(READ_BYTES):
                found.update(piece)
                between()
    except OSError as error:
        raise RvcdError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    return found.hexdigest()
