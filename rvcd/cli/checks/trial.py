"""The last question of `rvcd check`: whether the worker can load all that it would be told to load, and convert with it.

It is answered by doing so, in a process of its own (rvcd.rendering.trial): torch and faiss stay out of this one, and a library
that crashes on a file ends that process only.
"""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import asdict, dataclass

from rvcd.cli.checks.finding import Finding, Level
from rvcd.ipc.python_module import module_command

COMMAND = module_command("rvcd.rendering.trial")
LIMIT_S = 300.0


@dataclass(frozen=True)
class TrialRequest:
    """config: path of the configuration; voice, f0_method, latency_preset: as the daemon would resume them, "" as configured."""

    config: str
    voice: str = ""
    f0_method: str = ""
    latency_preset: str = ""


def trial_findings(request: TrialRequest, command: tuple[str, ...] = COMMAND, limit_s: float = LIMIT_S) -> list[Finding]:
    """Run the trial and return what it found."""
    try:
        done = subprocess.run(
            command, input=json.dumps(asdict(request)), capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return [Finding(Level.FAIL, "trial", f"the models were not loaded after {limit_s:.0f} s; is the disk too slow?")]
    except OSError as error:
        return [Finding(Level.FAIL, "trial", f"the models cannot be tried: {(error.strerror or str(error)).lower()}")]
    try:
        findings = [Finding(Level(level), topic, text) for level, topic, text in map(json.loads, done.stdout.splitlines())]
    except ValueError:
        findings = []
    if done.returncode != 0 or not findings:
        findings.append(Finding(Level.FAIL, "trial", _how_it_ended(done.returncode, done.stderr)))
    return findings


def _how_it_ended(code: int, complaints: str) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = "; is there enough memory?" if -code == signal.SIGKILL else "; one of the model files or the index is damaged"
        return f"loading the models ended by {name}{why}"
    last = (complaints.strip().splitlines() or ["it said nothing"])[-1]
    return f"loading the models ended with a fault of rvcd ({last}); please report it"
