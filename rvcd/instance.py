"""The name of a daemon where several run on one machine: `rvcd run --name NAME`. "" is the daemon without a name. Stdlib only.

Everything that a daemon has for itself (files, folders, ports of the sound server, its unit) is called after one of these.
"""

from __future__ import annotations

import re

from rvcd.errors import RvcdError

MAX_LENGTH = 32
_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_LENGTH}}}")
_MICROPHONE = re.compile(rf"rvcd-(?:[A-Za-z0-9_-]{{1,{MAX_LENGTH}}}-)?microphone")
_SHOWN = 60


def check_name(name: str) -> str:
    """Return a daemon's name as it is. Raises RvcdError for one that no file, unit or sound server could hold."""
    if _NAME.fullmatch(name) is None:
        shown = repr(name[:_SHOWN]) + ("..." if len(name) > _SHOWN else "")
        raise RvcdError(f"{shown} is no name for a daemon: it takes 1 to {MAX_LENGTH} letters without accents, digits, - and _")
    return name


def full_name(name: str) -> str:
    """Return what its files, folders and unit are called: rvcd, or rvcd@NAME. A name cannot hold the @."""
    return f"rvcd@{name}" if name else "rvcd"


def client_name(name: str) -> str:
    """Return what a sound server knows it by: rvcd, or rvcd-NAME."""
    return f"rvcd-{name}" if name else "rvcd"


def microphone_node(name: str) -> str:
    """Return what a sound server knows its microphone by: rvcd-microphone, or rvcd-NAME-microphone."""
    return f"{client_name(name)}-microphone"


def microphone_label(name: str) -> str:
    """Return what people read as its microphone's name, unless they have chosen another: rvcd, or rvcd NAME."""
    return f"rvcd {name}" if name else "rvcd"


def is_microphone_label(label: str) -> bool:
    """Say whether a microphone is called as one of rvcd's is by default."""
    return label == microphone_label("") or label.startswith(f"{microphone_label('')} ")


def is_microphone_node(node: str) -> bool:
    """Say whether a node of a sound server is the microphone of some rvcd, of this one or another."""
    return _MICROPHONE.fullmatch(node) is not None


def shown_name(name: str) -> str:
    """Return how a sentence calls it: rvcd, or rvcd 'NAME'."""
    return f"rvcd '{name}'" if name else "rvcd"
