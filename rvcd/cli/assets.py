"""`rvcd assets`: the model files of others that a real voice needs."""

from __future__ import annotations

import json

import typer

from rvcd.cli.common import ConfigOption, JsonOption, NameOption, print_table


def assets(config: ConfigOption = None, instance: NameOption = None, as_json: JsonOption = False) -> None:
    """List the model files to download for a real voice, and whether they are in place."""
    from rvcd.config.settings import load_config
    from rvcd.voices.assets import ASSETS, examine

    models = load_config(config, instance or "").models
    configured = {"content_encoder": models.real_encoder, "rmvpe": models.rmvpe}
    status = {key: examine(key, path, getattr(models.sha256, key)) for key, path in configured.items()}
    rows = []
    for asset in ASSETS:
        found = status[asset.key]
        state = "present" if found.asset == asset and found.usable else "missing"
        rows.append({"name": asset.name, "size_bytes": asset.size_bytes, "sha256": asset.sha256, "key": f"models.{asset.key}",
                     "doc": asset.doc, "state": state})  # fmt: skip
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
    typer.echo("\nOne of the two content encoders is needed; rmvpe.pt only for f0_method = 'rmvpe'.")
