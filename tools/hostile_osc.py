"""Attack a daemon with hostile OSC datagrams and say whether anything gave: `python tools/hostile_osc.py --help`.

Without --port it starts a daemon of its own: virtual device, demo speech, everything it writes in a temporary folder. With
--port it attacks a running one on this machine or another; datagrams that would by right do more than move faders, mute and
panic are then left out (see reaches_further), and what was found is put back at the end. Do not do it during a show.

A quiet stretch is measured first and the attack is compared with it, because a busy machine stalls by itself. Exit code 0:
everything held; 1: something did not, or there is no daemon.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rvcd.daemon.presets import load_presets, presets_path
from rvcd.daemon.state import FILE_NAME, load_state
from rvcd.errors import RvcdError
from rvcd.params import PARAMS
from rvcd.protocol import DEFAULT_HOST, PREFIX, Stats
from tests.daemon_process import DaemonProcess, OscClient
from tests.osc.packets import KINDS, hostile, reaches_further

HANG_MS = 50.0
"""How long an honest ping may wait for the daemon: not counted is how long other programs kept it, or this one, from running.
Where that cannot be seen: how much longer than in the quiet stretch."""
GROWTH_LIMIT_BYTES = 10
"""Resident memory that a datagram may cost once the caches are full, on average."""
MEASURED_GROWTH_KB = 512
"""Resident memory moves by that much without any leak."""
PING_EVERY_S = 0.02
PATIENCE_S, BUSY_PATIENCE_S = 1.0, 10.0
"""How long an answer is waited for, and how long on a machine that has other things to do (--busy)."""
SOCKETS = 16
"""Each has rate limits of its own, so this many sources get through what one would not."""
OWN_CONFIG = """
[audio]
backend = "virtual"
[models]
content_encoder = "test"
[voices]
voice = "test-buzz"
[latency]
preset = "safe"
[record]
folder = {record}
min_free_mb = 10
"""


@dataclass
class Stretch:
    """What was seen while nothing, or an attack, was going on. Times in ms; counters are differences."""

    waits_ms: list[float] = field(default_factory=list)
    kept_ms: list[float] = field(default_factory=list)
    """Of each wait, how long the daemon or this program was ready to run and other programs had the processors."""
    lost: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)

    def wait(self, share: float) -> float:
        """Return the wait that a share 0..1 of the pings did not exceed."""
        waits = sorted(self.waits_ms) or [float("inf")]
        return waits[min(len(waits) - 1, round(share * len(waits)))]

    def longest_of_its_own(self) -> float:
        """Return the longest wait that no other program explains."""
        return max((wait - kept for wait, kept in zip(self.waits_ms, self.kept_ms, strict=True)), default=float("inf"))


COUNTED = ("late_blocks", "expired_samples", "failed_blocks", "input_xruns", "output_xruns", "worker_restarts")


def attack(to: tuple[str, int], count: int, rate_hz: float, seed: int, own_daemon: bool, pipe: Connection) -> None:
    """Prepare `count` datagrams, say so, wait for the word, send them at rate_hz, and report how many of each kind left."""
    chosen = (each for each in hostile(seed) if not reaches_further(each[1], own_daemon=own_daemon))
    datagrams = list(islice(chosen, count))
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
    for sender in senders:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # nobody reads the replies
    pipe.send("ready")
    pipe.recv()
    sent: Counter[str] = Counter()
    started = time.monotonic()
    for at, (kind, datagram) in enumerate(datagrams):
        ahead_s = at / rate_hz - (time.monotonic() - started)
        if ahead_s > 0.005:
            time.sleep(ahead_s)
        try:
            senders[at % SOCKETS].sendto(datagram, to)
            sent[kind] += 1
        except OSError:  # the kernel's send buffer is full
            sent["not sent"] += 1
    pipe.send(sent)


class Honest:
    """A client that behaves: it pings, sets, asks."""

    def __init__(self, host: str, port: int, pid: int | None = None, patience_s: float = PATIENCE_S) -> None:
        """pid: of the daemon's control process, where it can be seen. patience_s: how long an answer is waited for."""
        self.client = OscClient(port)
        self.client.socket.connect((host, port))
        self.pid, self.patience_s = pid, patience_s
        self._pings = 0

    def ping(self, stretch: Stretch) -> None:
        """Send one ping and note how long its pong took."""
        self._pings += 1
        mark = f"honest {self._pings}"
        kept_ms = self._kept_ms()
        started = time.perf_counter()
        self.client.send("/rvc/ping", mark)
        while (left := self.patience_s - (time.perf_counter() - started)) > 0:
            reply = self.client.receive(left)
            if reply is not None and reply.address == "/rvc/pong" and reply.params == [mark]:
                stretch.waits_ms.append(1000.0 * (time.perf_counter() - started))
                stretch.kept_ms.append(self._kept_ms() - kept_ms)
                return
        stretch.lost += 1

    def _kept_ms(self) -> float:
        return kept_from_running_ms(self.pid) + kept_from_running_ms(os.getpid()) if self.pid else 0.0

    def stats(self) -> Stats:
        """Return the telemetry; asks again when a datagram was lost."""
        for _ in range(3):
            try:
                return self.client.stats(timeout_s=self.patience_s)
            except AssertionError:
                continue
        raise RvcdError("there is no answer to /rvc/stats; is a daemon running, and may this machine talk to it?")

    def holds(self, address: str, *args: object) -> bool:
        """Set, ask, and return whether the value asked for is the one that was set."""
        for _ in range(3):
            try:
                self.client.ask(address, *args, timeout_s=2 * self.patience_s)
                answer = self.client.ask(address, timeout_s=2 * self.patience_s)
                if answer.address == address and abs(float(answer.params[0]) - float(str(args[0]))) < 1e-3:
                    return True
            except AssertionError:
                continue
        return False


@dataclass(frozen=True)
class Before:
    """What held before the attack, to be put back: numbers and switches by their full address, and panic."""

    values: dict[str, float]
    panic: int

    @classmethod
    def of(cls, honest: Honest) -> Before:
        """Ask for it."""
        panic = honest.stats().panic
        addresses = [PREFIX + address for address in (*(param.address for param in PARAMS), "/mute", "/bypass")]
        return cls({address: float(honest.client.ask(address).params[0]) for address in addresses}, panic)

    def put_back(self, honest: Honest) -> bool:
        """Set it again and return whether it holds."""
        honest.client.send("/rvc/panic" if self.panic else "/rvc/panic/clear")
        held = [honest.holds(address, value) for address, value in self.values.items()]  # all of them, whatever one does
        return all(held) and honest.stats().panic == self.panic


def measure(honest: Honest, seconds: float, sending: Connection | None, what: str) -> Stretch:
    """Ping for some seconds, or until the attack has been sent, and return what was seen."""
    stretch = Stretch()
    before = honest.stats()
    if sending is not None:
        sending.send("go")
    started = time.monotonic()
    next_word_s = 0.0
    while True:
        elapsed = time.monotonic() - started
        if sending.poll() if sending is not None else elapsed >= seconds:
            break
        if elapsed >= next_word_s:
            next_word_s += 10.0
            print(f"  {what}: {elapsed:.0f} of about {seconds:.0f} s", file=sys.stderr, flush=True)
        honest.ping(stretch)
        time.sleep(PING_EVERY_S)
    if sending is not None:
        stretch.sent = sending.recv()
    after = honest.stats()
    stretch.counters = {name: getattr(after, name) - getattr(before, name) for name in COUNTED}
    return stretch


@contextmanager
def attacker(to: tuple[str, int], count: int, rate_hz: float, seed: int, own_daemon: bool) -> Iterator[Connection]:
    """Run attack() in a process of its own and yield the line to it once its datagrams are made."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=attack, args=(to, count, rate_hz, seed, own_daemon, theirs), daemon=True)
    process.start()
    try:
        ours.recv()
        yield ours
    finally:
        process.terminate()
        process.join()


def resident_kb(pid: int | None) -> int:
    """Return a process's resident memory in KB, 0 when it cannot be seen."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def kept_from_running_ms(pid: int | None) -> float:
    """Return how long a process's main thread has been ready and not run, since its start; 0.0 when it cannot be seen."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e6
    except (OSError, IndexError, ValueError):
        return 0.0


def open_files(pid: int | None) -> int:
    """Return how many files and sockets a process has open, 0 when it cannot be seen."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def dropped_by_kernel(port: int) -> int:
    """Return how many datagrams this machine dropped because the socket of a port was full."""
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[-1]) for row in rows if int(row[1].rpartition(":")[2], 16) == port)


@dataclass
class Verdict:
    """The table that is printed: what, quiet, attack, whether it held."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    failed: bool = False

    def add(self, what: str, quiet: object, under_attack: object, held: bool | None = None, bound: str = "") -> None:
        """Add a row. held None: for information."""
        word = "" if held is None else "held" if held else "DID NOT HOLD"
        self.failed |= held is False
        self.rows.append((what, str(quiet), str(under_attack), f"{word} {bound}".strip()))

    def print(self) -> None:
        """Print the rows in columns."""
        rows = [("", "quiet", "attack", ""), *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for what, quiet, under_attack, word in rows:
            print(f"{what:<{widths[0]}}  {quiet:>{widths[1]}}  {under_attack:>{widths[2]}}  {word}".rstrip())


def judge_waiting(verdict: Verdict, quiet: Stretch, attacked: Stretch, busy: bool) -> None:
    """Compare how long honest pings waited."""
    for name, share in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0)):
        verdict.add(f"ping to pong, {name} (ms)", f"{quiet.wait(share):.2f}", f"{attacked.wait(share):.2f}")
    if any(attacked.kept_ms):
        longest = quiet.longest_of_its_own(), attacked.longest_of_its_own()  # a hypervisor's pauses are still in it
        what, held = "longest, less the time others had the processors", longest[1] < HANG_MS
    else:
        longest = quiet.wait(1.0), attacked.wait(1.0)
        what, held = "longest, against the quiet stretch", longest[1] - longest[0] < HANG_MS
    verdict.add(f"{what} (ms)", f"{longest[0]:.2f}", f"{longest[1]:.2f}", None if busy else held, f"(< {HANG_MS:.0f} ms)")
    answered, lost_held = len(attacked.waits_ms), attacked.lost <= quiet.lost
    verdict.add(
        "pings without an answer", quiet.lost, attacked.lost, None if busy else lost_held, f"of {answered + attacked.lost}"
    )


def judge_audio(verdict: Verdict, quiet: Stretch, attacked: Stretch, seconds: float, busy: bool) -> None:
    """Compare the counters of the audio path: one event more in ten seconds may be the machine's."""
    more = 1 + seconds / 10.0
    for name in COUNTED:
        spare = more * (48000 * 0.2 if name == "expired_samples" else 1.0)
        held = attacked.counters[name] <= quiet.counters[name] + spare
        verdict.add(name.replace("_", " "), quiet.counters[name], attacked.counters[name], None if busy else held)


def judge_files(verdict: Verdict, daemon: DaemonProcess, pitch: float) -> None:
    """Look at what the daemon of our own left behind: its log, its saved state, its presets."""
    log = daemon.log
    bad = sum(log.count(word) for word in ("Traceback", "internal error", "unexpectedly", "could not be built"))
    verdict.add("tracebacks in the log", "", bad, bad == 0, f"of {len(log.splitlines())} lines")
    verdict.add("control characters in the log", "", forged := sum(not c.isprintable() and c != "\n" for c in log), forged == 0)
    file = Path(daemon.environment["XDG_STATE_HOME"], "rvcd", FILE_NAME)
    state, state_warning = load_state(file)
    verdict.add("saved state is whole", "", "", state_warning is None and state.params.get("pitch") == pitch)
    presets, presets_warning = load_presets(presets_path(file))
    verdict.add("presets are whole", "", "", presets_warning is None, f"{len(presets.names)} of them")


def run_against(honest: Honest, to: tuple[str, int], daemon: DaemonProcess | None, options: argparse.Namespace) -> Verdict:
    """Measure a quiet stretch, an attack, and half as much again; return the verdict."""
    pid = honest.pid
    own, seconds = daemon is not None, options.count / options.rate
    before = Before.of(honest)
    print(f"preparing {options.count} datagrams, seed {options.seed}", file=sys.stderr, flush=True)
    with attacker(to, options.count, options.rate, options.seed, own) as line:
        quiet = measure(honest, seconds, None, "quiet")
        memory = [resident_kb(pid)]
        files, drops = open_files(pid), dropped_by_kernel(to[1])
        attacked = measure(honest, seconds, line, "attack")
        memory.append(resident_kb(pid))
    with attacker(to, options.count // 2, options.rate, options.seed + 1, own) as line:
        measure(honest, seconds / 2, line, "attack again")
        memory.append(resident_kb(pid))
    verdict = Verdict()
    sent = sum(attacked.sent.values()) - attacked.sent["not sent"]
    kinds = ", ".join(f"{attacked.sent[kind]} {kind}" for kind in KINDS)
    verdict.add("datagrams sent", 0, sent, sent > 0.95 * options.count, kinds)
    verdict.add("dropped by the kernel", "", dropped_by_kernel(to[1]) - drops)
    judge_waiting(verdict, quiet, attacked, options.busy)
    judge_audio(verdict, quiet, attacked, seconds, options.busy)
    if pid is not None:
        limit_kb = MEASURED_GROWTH_KB + GROWTH_LIMIT_BYTES * options.count // 2 // 1024
        verdict.add("memory of the control process (KB)", memory[0], f"{memory[1]}, {memory[2]} after half as much again")
        grown = memory[2] - memory[1]
        verdict.add("memory grown by the second attack (KB)", "", grown, grown < limit_kb, f"(< {limit_kb})")
        more_files = open_files(pid) - files
        verdict.add("more open files", "", more_files, more_files <= 1)
    verdict.add("what held before holds again", "", "", before.put_back(honest))
    verdict.add("an honest pitch is set and told", "", "", honest.holds("/rvc/pitch", options.pitch))
    verdict.add("state", "", honest.stats().state)
    if daemon is None:
        honest.holds("/rvc/pitch", before.values["/rvc/pitch"])
    return verdict


def run_own(options: argparse.Namespace) -> Verdict:
    """Attack a daemon started for it, in a temporary folder, and look at what it leaves behind."""
    with tempfile.TemporaryDirectory(prefix="rvcd-hostile-") as name:
        folder = Path(name)
        daemon = DaemonProcess(folder, OWN_CONFIG.format(record=json.dumps(str(folder / "takes")))).start()
        assert daemon.process is not None
        try:
            honest = Honest(DEFAULT_HOST, daemon.port, daemon.process.pid, BUSY_PATIENCE_S if options.busy else PATIENCE_S)
            daemon.osc.until(lambda stats: stats.state == "live" and stats.blocks > 3)
            verdict = run_against(honest, (DEFAULT_HOST, daemon.port), daemon, options)
            code = daemon.stop()
            verdict.add("exit code of the daemon", "", code, code == 0)
            judge_files(verdict, daemon, options.pitch)
        except BaseException:
            print(daemon.log[-4000:], file=sys.stderr)
            raise
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()
        return verdict


def main() -> int:
    """Attack, print the table, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000, help="datagrams; half as many follow (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2000.0, help="datagrams a second (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed sends the same datagrams (default: %(default)s)")
    parser.add_argument("--host", default=DEFAULT_HOST, help="of a running daemon (default: %(default)s)")
    parser.add_argument("--port", type=int, help="of a running daemon; without it one is started for the attack")
    parser.add_argument("--busy", action="store_true", help="do not judge what other programs' load can spoil, such as time")
    options = parser.parse_args()
    if options.count < 2 or options.rate <= 0:
        parser.error("--count must be 2 or more, and --rate above 0")
    options.pitch = -5.0
    try:
        if options.port is None:
            verdict = run_own(options)
        else:
            honest = Honest(options.host, options.port, patience_s=BUSY_PATIENCE_S if options.busy else PATIENCE_S)
            verdict = run_against(honest, (options.host, options.port), None, options)
    except (RvcdError, AssertionError, OSError) as error:
        print(f"hostile_osc: {error}", file=sys.stderr)
        return 1
    verdict.print()
    print("something did not hold" if verdict.failed else "everything held")
    return int(verdict.failed)


if __name__ == "__main__":
    sys.exit(main())
