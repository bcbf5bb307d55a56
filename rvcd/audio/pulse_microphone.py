"""The microphone on PulseAudio: a null sink that rvcd plays into, and a source that repeats the sink's monitor.

`pactl` (package pulseaudio-utils) makes them. All calls may take seconds; none belongs on the event loop.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from rvcd.audio.pipewire_graph import run_tool
from rvcd.errors import AudioDeviceError
from rvcd.instance import is_microphone_node

ON_PIPEWIRE = "on PipeWire"
MADE_BY_RVCD = "rvcd.microphone"


def is_running() -> bool:
    """Say whether a PulseAudio answers, not PipeWire in its place."""
    if not os.environ.get("PULSE_SERVER") and not (_runtime_folder() / "native").exists():
        return False
    try:
        text = run_tool("pactl", "info")
    except AudioDeviceError:
        return False
    return "Server Name:" in text and ON_PIPEWIRE not in text


def sink_of(node: str) -> str:
    """Return the name of the sink behind a microphone."""
    return f"{node}-sink"


def is_present(node: str) -> bool:
    """Say whether sink and source are both there. Raises AudioDeviceError."""
    return sink_of(node) in _names("sinks") and node in _names("sources")


def ensure(node: str, label: str) -> str:
    """Make what is missing of the two, keep the default devices as they were, and return the sink's name.

    Raises AudioDeviceError.
    """
    sink = sink_of(node)
    sinks, sources, modules = _names("sinks"), _names("sources"), _modules(node)
    if sink in sinks and node in sources and modules:
        return sink
    if (sink in sinks or node in sources) and not modules:
        raise AudioDeviceError(
            f"another program has a device called {node!r} in PulseAudio: close that program,\n"
            f'or set audio.virtual_microphone = "off"'
        )
    defaults = _defaults()
    described = f"device.description='{label}'"
    if sink not in sinks:
        run_tool(
            "pactl", "load-module", "module-null-sink", f"sink_name={sink}", "channels=1", "channel_map=mono", "rate=48000",
            f"sink_properties=\"{MADE_BY_RVCD}=true device.description='{label} (input of the microphone)'\"",
        )  # fmt: skip
    if node not in sources:
        run_tool(
            "pactl", "load-module", "module-remap-source", f"master={sink}.monitor", f"source_name={node}",
            f'source_properties="{MADE_BY_RVCD}=true {described}"',
        )  # fmt: skip
    for kind, was in defaults.items():
        if was and was != _defaults()[kind] and was in _names(f"{kind}s"):
            run_tool("pactl", f"set-default-{kind}", was)
    return sink


def remove(node: str) -> bool:
    """Unload both; return whether they were there. Raises AudioDeviceError."""
    modules = _modules(node)
    for number in reversed(modules):  # the source first: it hangs on the sink
        run_tool("pactl", "unload-module", number)
    return bool(modules)


def other_source() -> str | None:
    """Return a source to take for the default one where that is a microphone of this or another rvcd; None where it is not.

    Raises AudioDeviceError where there is no other.
    """
    if not _is_rvcds(_defaults()["source"]):
        return None
    found = next((name for name in sorted(_names("sources")) if not _is_rvcds(name) and not name.endswith(".monitor")), None)
    if found is None:
        raise AudioDeviceError("the only microphone is rvcd's own: connect a real one, or name it in audio.input")
    return found


def _is_rvcds(source: str) -> bool:
    return is_microphone_node(source.removesuffix(".monitor").removesuffix(sink_of("")))


def listening_sink(wanted: str) -> str:
    """Return the sink that a monitor's device means, "" where it is none of PulseAudio's. Never a microphone of rvcd's.

    wanted: default, pulse (both: the default sink), or a part of a sink's name. Raises AudioDeviceError where only microphones
    of rvcd's are there, or one of them is meant.
    """
    own = _own_sinks()
    others = sorted(_names("sinks") - own)
    if wanted.lower() in ("default", "pulse"):
        default = _defaults()["sink"]
        if default and default not in own:
            return default
        if not others:
            raise AudioDeviceError("the only output is rvcd's own microphone: connect headphones, or switch the monitor off")
        return others[0]
    fitting = [name for name in others if name.lower() == wanted.lower()] or [n for n in others if wanted.lower() in n.lower()]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and any(wanted.lower() in name.lower() for name in own):
        raise AudioDeviceError(f"{wanted!r} is rvcd's own microphone, which others hear: name headphones")
    return ""


def _own_sinks() -> set[str]:
    """Return the sinks behind the microphones of rvcd, of every instance."""
    rows = (row for row in run_tool("pactl", "list", "short", "modules").splitlines() if MADE_BY_RVCD in row)
    return {found[1] for row in rows if (found := re.search(r"\bsink_name=(\S+)", row))}


def _names(kind: str) -> set[str]:
    rows = (line.split("\t") for line in run_tool("pactl", "list", "short", kind).splitlines())
    return {row[1] for row in rows if len(row) > 1}


def _modules(node: str) -> list[str]:
    """Return the numbers of our two modules, in the order of their loading."""
    rows = [line.split("\t") for line in run_tool("pactl", "list", "short", "modules").splitlines()]
    mine = (f"sink_name={sink_of(node)} ", f"source_name={node} ")
    return [row[0] for row in rows if len(row) > 2 and MADE_BY_RVCD in row[2] and any(part in row[2] for part in mine)]


def _defaults() -> dict[str, str]:
    text = run_tool("pactl", "info")
    found = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return {"sink": found.get("Default Sink", ""), "source": found.get("Default Source", "")}


def _runtime_folder() -> Path:
    if folder := os.environ.get("PULSE_RUNTIME_PATH"):
        return Path(folder)
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "pulse"
