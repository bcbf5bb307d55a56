"""`rvcd assets`: the model files of others that a real voice needs. Only `rvcd assets fetch` gets them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rvcd.cli.common import ConfigOption, JsonOption, NameOption, print_table, unwound_by_signals
from rvcd.config.folders import expand_home

if TYPE_CHECKING:
    from rvcd.config.settings import Models
    from rvcd.voices.assets import Asset

app = typer.Typer(
    help="List the model files that a real voice needs, or get them.", invoke_without_command=True, rich_markup_mode=None
)


@app.callback()
def assets(context: typer.Context, config: ConfigOption = None, instance: NameOption = None, as_json: JsonOption = False) -> None:
    """List the model files that a real voice needs, and whether they are in place; `rvcd assets fetch` gets them."""
    if context.invoked_subcommand is not None:
        return
    from rvcd.config.settings import load_config
    from rvcd.voices.assets import ASSETS, PUBLISHED, examine

    models = load_config(config, instance or "").models
    configured = {"content_encoder": models.real_encoder, "rmvpe": models.rmvpe_file}
    status = {key: examine(key, path, getattr(models.sha256, key)) for key, path in configured.items()}
    rows = []
    for file in PUBLISHED:
        found = status[file.key]
        state = "present" if found.published == file and found.usable else "missing"
        rows.append({"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256, "key": f"models.{file.key}",
                     "doc": file.doc, "state": state})  # fmt: skip
    for asset in ASSETS:
        if asset.key.startswith("encoders."):
            rows.append({"name": asset.weights.path, "size_bytes": asset.weights.size_bytes, "sha256": asset.weights.sha256,
                         "key": asset.key, "doc": asset.doc, "state": _state(asset, models)})  # fmt: skip
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    print_table(
        ("file", "bytes", "goes to", "what it is", "state"),
        [(str(r["name"]), f"{r['size_bytes']:,}", str(r["key"]), str(r["doc"]), str(r["state"])) for r in rows],
    )
    typer.echo("\nSHA-256:")
    for row in rows:
        typer.echo(f"{row['sha256'] or 'not published':<64}  {row['name']}")
    for found in status.values():
        if found.path is not None:
            typer.echo(f"\nmodels.{found.key} = {found.path}: {found.match.value}")
    typer.echo(
        "\nOne of the two content encoders is needed; rmvpe.pt only for f0_method = 'rmvpe'; the others by voices that name them."
    )
    typer.echo("`rvcd assets fetch NAME` gets one of these into models.folder:\n")
    print_table(
        ("name", "MB", "what it is", "state"),
        [(asset.name, f"{asset.size_bytes / 1e6:,.0f}", asset.doc, _state(asset, models)) for asset in ASSETS],
    )


def _state(asset: Asset, models: Models) -> str:
    """Say whether an asset was fetched."""
    return "present" if models.fetched(asset.weights.path) else "missing"


@app.command("fetch")
def fetch_assets(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="content-encoder, rmvpe, another of `rvcd assets`, or all.", show_default=False),
    ] = None,
    from_folder: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Take the files from a folder, and ask no other machine.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace a file of that name that is not the published one.")
    ] = False,
    config: ConfigOption = None,
    instance: NameOption = None,
) -> None:
    """Download model files from where they are published, checked by size and SHA-256; without a name: the content encoder.

    An interrupted download goes on where it was. HF_ENDPOINT or models.mirror names a mirror, models.folder where files go.
    """
    from rvcd.cli.transfer_progress import ShownProgress
    from rvcd.config.settings import load_config
    from rvcd.transfer.assets import Fetch, check_space_for, fetch, origin
    from rvcd.voices.assets import assets_named

    models = load_config(config, instance or "").models
    chosen = assets_named(names or ["content-encoder"])
    wanted = Fetch(
        chosen, models.fetched_folder, expand_home(from_folder) if from_folder else origin(models.mirror, os.environ),
        models.sha256.model_dump(), force,
    )  # fmt: skip
    check_space_for(wanted)
    with unwound_by_signals(), ShownProgress() as progress:
        done = [(asset, fetch(asset, wanted, progress)) for asset in chosen]
    for asset, outcome in done:
        typer.echo(f"{outcome.value:<8}  {asset.name}: {_used_by(asset, models)}")


def _used_by(asset: Asset, models: Models) -> str:
    """Say where an asset lies, and whether the configuration uses it."""
    from rvcd.config.settings import AUTO

    path = models.fetched_folder / asset.weights.path
    configured = getattr(models, asset.key, AUTO)
    if configured in (AUTO, str(path)):
        return str(path)
    return f'{path}, but models.{asset.key} is {configured!r}: set it to "auto" to use this file'
