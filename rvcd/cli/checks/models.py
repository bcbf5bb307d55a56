"""The files and packages that the engine needs beside a voice."""

from __future__ import annotations

import importlib.util

from rvcd.cli.checks.finding import Finding, Level
from rvcd.config.settings import TEST_WEIGHTS, Settings
from rvcd.errors import RvcdError, how_to_install
from rvcd.formats.contentvec_header import read_unit_widths
from rvcd.formats.rmvpe_header import check_rmvpe
from rvcd.formats.torch_file import damaged_entry
from rvcd.voices.assets import AssetStatus, Match, examine

OPTIONAL_METHODS = {"fcpe": "torchfcpe", "pm": "parselmouth"}
"""Pitch methods that need an extra of the same name, and the module it installs."""


def model_findings(settings: Settings, hashes: bool = True) -> list[Finding]:
    """Look at the configured content encoder, and at RMVPE where it is configured or needed.

    hashes False: at their sizes and headers alone, however large they are.
    """
    findings = []
    for key in ("content_encoder", "rmvpe"):
        if key == "rmvpe" and settings.engine.f0_method != "rmvpe" and not settings.models.rmvpe_file:
            continue
        try:
            configured = settings.models.real_encoder if key == "content_encoder" else settings.models.rmvpe_file
            status = examine(key, configured, getattr(settings.models.sha256, key), hashes)
        except RvcdError as error:
            findings.append(Finding(Level.FAIL, "models", f"models.{key}: {error}"))
        else:
            findings.append(_model(settings, status, hashes))
    return findings


def _look_inside(status: AssetStatus, configured: str, whole: bool) -> str:
    """Return why the worker could not load a model file, "" where nothing speaks against it. whole: read all of it."""
    try:
        if status.key == "content_encoder":
            read_unit_widths(configured)
        else:
            check_rmvpe(configured)
        zipped = status.path is not None and status.path.suffix != ".safetensors"
        entry = damaged_entry(status.path) if whole and zipped and status.path is not None else None
    except RvcdError as error:
        reason = str(error)
        return reason if "download" in reason else f"{reason}; `rvcd assets fetch` downloads the published one"
    return f"{status.path}: is damaged (checksum of {entry}); download or copy it again" if entry else ""


def _model(settings: Settings, status: AssetStatus, hashes: bool) -> Finding:
    name = f"models.{status.key}"
    if status.match is Match.BUILT_IN:
        if status.key == "rmvpe":
            return Finding(
                Level.FAIL,
                "models",
                "rmvpe.pt is not here, but engine.f0_method = 'rmvpe' needs it; `rvcd assets fetch rmvpe` gets it",
            )
        if settings.models.content_encoder != TEST_WEIGHTS:
            return Finding(
                Level.NOTE, "models", f"{name}: the built-in voice's own; `rvcd assets fetch` gets the one for RVC voices"
            )
        return Finding(
            Level.NOTE, "models", f"{name}: test weights, no word can be understood; `rvcd assets fetch` gets the real one"
        )
    if status.match is Match.MISSING:
        return Finding(
            Level.FAIL,
            "models",
            f'{name}: {status.path} does not exist; correct it, or set it to "auto" and type `rvcd assets fetch`',
        )
    if status.match is Match.MISMATCH:
        expected = getattr(settings.models.sha256, status.key)
        return Finding(
            Level.FAIL, "models", f"{name}: {status.path} has SHA-256 {status.sha256}, not {expected}; download it again"
        )
    unfit = _look_inside(
        status, settings.models.real_encoder if status.key == "content_encoder" else settings.models.rmvpe_file, hashes
    )
    if unfit:
        return Finding(Level.FAIL, "models", f"{name}: {unfit}")
    if not hashes:
        return Finding(Level.OK, "models", f"{name}: {status.path}, {status.size_bytes:,} bytes, its checksum was not looked at")
    known = f" = {status.published.name}" if status.published else ""
    level = Level.OK if status.match is Match.VERIFIED else Level.NOTE
    return Finding(
        level,
        "models",
        f"{name}: {status.path}{known}: {status.match.value}, {status.size_bytes:,} bytes, SHA-256 {status.sha256[:16]}…",
    )


def pitch_method_finding(settings: Settings, resumed: str = "") -> Finding:
    """Say whether the package of the pitch method is installed. resumed: the method of the last run, "" for none."""
    method = resumed or settings.engine.f0_method
    module = OPTIONAL_METHODS.get(method)
    if module is not None and importlib.util.find_spec(module) is None:
        return Finding(Level.FAIL, "pitch", f"f0_method '{method}' needs an extra: {how_to_install(method)}")
    return Finding(Level.OK, "pitch", f"method {method}")
