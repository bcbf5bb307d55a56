"""tools/hostile_osc.py, the script that attacks a whole daemon: its datagrams, and the script itself with few of them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from rvcd.errors import ProtocolError
from rvcd.osc.codec import decode, encode
from rvcd.osc.verbs import VERBS, find_verb
from rvcd.protocol import PREFIX
from tests.osc.packets import KINDS, hostile, reaches_further

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "hostile_osc.py"


def test_the_same_seed_gives_the_same_datagrams_and_another_seed_others() -> None:
    assert list(islice(hostile(7), 500)) == list(islice(hostile(7), 500))
    assert list(islice(hostile(7), 500)) != list(islice(hostile(8), 500))


def test_every_kind_is_drawn_and_every_verb_is_reached_with_arguments_that_decode() -> None:
    kinds: Counter[str] = Counter()
    reached = set()
    for kind, datagram in islice(hostile(1), 12_000):
        kinds[kind] += 1
        assert len(datagram) <= 65_507, "UDP carries no more"
        try:
            messages = decode(datagram)
        except ProtocolError:
            continue
        found = (find_verb(sent.address.removeprefix(PREFIX)) for sent in messages if sent.args)
        reached |= {match[0].address for match in found if match}
    assert all(kinds[kind] > 0.8 * share * 12_000 for kind, (share, _) in KINDS.items()), kinds
    assert reached == {verb.address for verb in VERBS}


@pytest.mark.parametrize(
    "address, args, on_own, on_others",
    [
        ("/rvc/pitch", (3,), False, False),
        ("/rvc/mute", (1,), False, False),
        ("/rvc/panic", (), False, False),
        ("/rvc/voice", (), False, False),
        ("/rvc/voice/list", (), False, False),
        ("/rvc/subscribe", (0, 10), False, False),
        ("/rvc/subscribe", (9731, 10), True, True),
        ("/rvc/f0/method", ("harvest",), True, True),
        ("/rvc/f0/method", ("../x",), False, True),
        ("/rvc/latency/preset", (0.0,), True, True),
        ("/rvc/record", (1,), True, True),
        ("/rvc/record/toggle", (), True, True),
        ("/rvc/record/off", (), False, True),
        ("/rvc/bypass", (1,), False, True),
        ("/rvc/talk/on", (), False, True),
        ("/rvc/voice/next", (), True, True),
        ("/rvc/voice/slot/2", (), True, True),
        ("/rvc/voice", ("../../etc/passwd",), False, True),
        ("/rvc/preset/delete", (1,), False, True),
    ],
)
def test_what_an_attack_leaves_undone(address: str, args: tuple[object, ...], on_own: bool, on_others: bool) -> None:
    datagram = encode(address, *args)
    assert reaches_further(datagram, own_daemon=True) is on_own
    assert reaches_further(datagram, own_daemon=False) is on_others


def test_the_script_attacks_a_daemon_of_its_own_and_says_that_everything_held() -> None:
    command = [sys.executable, str(SCRIPT), "--count", "2000", "--rate", "1000", "--busy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("everything held\n")
    assert "DID NOT HOLD" not in done.stdout
    assert "2000  held" in done.stdout
    assert "tracebacks in the log" in done.stdout


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_everything_holds_through_minutes_of_attack() -> None:
    command = [sys.executable, str(SCRIPT), "--count", "200000", "--rate", "1000", "--busy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("everything held\n")


def test_the_script_says_that_there_is_no_daemon() -> None:
    command = [sys.executable, str(SCRIPT), "--count", "10", "--port", "9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "hostile_osc: " in done.stderr
