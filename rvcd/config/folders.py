"""Which folders rvcd uses: systemd's own where it runs as a service, else those of the XDG Base Directory Specification.

Nothing is created here. Every function raises RvcdError, with what to set, where the user's home folder is not known.
instance: the name of a daemon (rvcd.instance), "" for the one without. Voices and the cache belong to all of them.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from platformdirs import PlatformDirs

from rvcd.errors import RvcdError
from rvcd.instance import full_name

NAME = "rvcd"
SYSTEM_CONFIG = Path("/etc/rvcd/rvcd.toml")
SYSTEM_STATE = Path("/var/lib")


def state_folder(instance: str = "") -> Path:
    """Return where a daemon keeps what it must remember: systemd's $STATE_DIRECTORY, else $XDG_STATE_HOME/rvcd.

    With a name it is rvcd@NAME below that, unless systemd's is called so already.
    """
    folder = _of_service("STATE_DIRECTORY") or _of_user("user_state_dir", "XDG_STATE_HOME")
    return folder if not instance or folder.name == full_name(instance) else folder / full_name(instance)


def cache_folder() -> Path:
    """Return where files are kept that can be made again: systemd's $CACHE_DIRECTORY, else $XDG_CACHE_HOME/rvcd."""
    return _of_service("CACHE_DIRECTORY") or _of_user("user_cache_dir", "XDG_CACHE_HOME")


def user_config(instance: str = "") -> Path:
    """Return where a user's own configuration is looked for, whether it exists or not: $XDG_CONFIG_HOME/rvcd/rvcd.toml.

    With a name it is rvcd@NAME.toml.
    """
    return _of_user("user_config_dir", "XDG_CONFIG_HOME") / f"{full_name(instance)}.toml"


def config_files(instance: str = "") -> Sequence[Path]:
    """Return the configuration files of this machine, whether they exist or not; the first that exists counts.

    Raises nothing: where no home folder is known, there is no user's file.
    """
    system = SYSTEM_CONFIG.with_name(f"{full_name(instance)}.toml") if instance else SYSTEM_CONFIG
    try:
        return user_config(instance), system
    except RvcdError:
        return (system,)


def voices_folder() -> Path:
    """Return where voices are looked for unless voices.folders says otherwise.

    The same in every environment ($XDG_DATA_HOME too), because the documented configuration names it.
    """
    return expand_home("~/.local/share/rvcd/voices")


def models_folder() -> Path:
    """Return where `rvcd assets fetch` puts model files unless models.folder says otherwise; beside the voices."""
    return voices_folder().with_name("models")


def recordings_folder(instance: str = "") -> Path:
    """Return ~/Music/rvcd, or a system service's state folder, since nothing of /home is there for it (ProtectHome).

    With a name it is ~/Music/rvcd/NAME.
    """
    state = _of_service("STATE_DIRECTORY")
    if state is not None and SYSTEM_STATE in state.parents:  # a user's service has one too, in the user's home
        return state_folder(instance) / "recordings"
    return expand_home("~/Music/rvcd") / instance


def expand_home(path: str | Path) -> Path:
    """Return a path with `~` and `~user` replaced; others come back as they are. Raises RvcdError for a home not known."""
    first, *rest = Path(path).parts or (".",)
    if not first.startswith("~"):
        return Path(path)
    try:
        if first == "~" and not os.path.isabs(os.environ.get("HOME", "")):
            home = Path(pwd.getpwuid(os.getuid()).pw_dir)  # an empty or relative HOME counts as none, as for platformdirs
        else:
            home = Path(first).expanduser()
    except (RuntimeError, KeyError):
        home = Path()
    if not home.is_absolute():
        raise RvcdError(f"{path}: that home folder is not known; set HOME to an absolute path, or write the path in full")
    return home.joinpath(*rest)


def _of_service(variable: str) -> Path | None:
    """Return the first folder that systemd made for a service, None outside of one."""
    first = os.environ.get(variable, "").split(":")[0]
    return Path(first) if first else None


def _of_user(attribute: str, variable: str) -> Path:
    """Return a user's folder as the specification has it; a variable that holds a relative path does not count."""
    try:
        folder = Path(getattr(PlatformDirs(NAME, appauthor=False), attribute))
    except RuntimeError:
        folder = Path()
    if not folder.is_absolute():
        raise RvcdError(f"there is no home folder to find rvcd's files in; set HOME or {variable} to an absolute path")
    return folder
