"""`rvcd version`: the versions of the package and of its OSC protocol."""

from __future__ import annotations

import typer


def version() -> None:
    """Print the version."""
    from rvcd.protocol import PROTOCOL_VERSION

    typer.echo(f"rvcd {installed_version()} (OSC protocol {PROTOCOL_VERSION})")


def installed_version() -> str:
    """Return the version of the installed package, 'unknown' in a source tree that was never installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return version_of("rvcd")
    except PackageNotFoundError:
        return "unknown"
