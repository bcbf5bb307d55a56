"""How a Python of our own is started: never with what happens to lie in the user's folder."""

from __future__ import annotations

import sys

_RUN = "import sys; sys.path[:] = [folder for folder in sys.path if folder]; from {module} import main; main()"


def module_command(module: str) -> tuple[str, ...]:
    """Return the command that calls main() of a module; arguments may follow it, from sys.argv[1] on.

    Not `python -m`, which imports from the current folder first: a `torch.py` or `json.py` that lies there would run, with all
    the daemon's rights. (-P, which says so, came with Python 3.11; -I would hide packages that the user installed.)
    """
    return (sys.executable, "-c", _RUN.format(module=module))
