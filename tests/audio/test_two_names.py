"""Two daemons with names on one private PipeWire: each has its ports and its microphone, and neither hears the other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rvcd.audio.pipewire_graph import read_graph, run_tool
from tests.audio.test_microphone import PrivatePipeWire, make_real_microphone, private_home, server
from tests.daemon_process import NamedDaemon, until_the_block_ends
from tests.waiting import HANG_S, eventually

__all__ = ["private_home", "server"]
CONFIG = '[voices]\nvoice = "test-buzz"\n[latency]\npreset = "safe"\n'
JOINS = """
import sys
from rvcd.audio.jack import server_answers
sys.stdin.readline()
print(sum(not server_answers() for _ in range(25)))
"""


def test_of_daemons_that_look_for_the_server_at_once_none_takes_it_for_missing(server: PrivatePipeWire) -> None:
    words = [sys.executable, "-c", JOINS]
    lookers = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for looker in lookers:
        assert looker.stdin is not None
        looker.stdin.write("go\n")
        looker.stdin.flush()
    assert [looker.communicate(timeout=HANG_S)[0] for looker in lookers] == ["0\n"] * 3


@pytest.fixture
def pair(server: PrivatePipeWire, private_home: Path) -> Iterator[tuple[NamedDaemon, NamedDaemon]]:
    make_real_microphone()
    deep, high = (NamedDaemon(private_home, name, CONFIG) for name in ("deep", "high"))
    with until_the_block_ends(deep), until_the_block_ends(high):
        yield deep, high


def links() -> set[tuple[str, str]]:
    """Return which node is connected to which, by their names."""
    graph = read_graph()
    names = {str(node.id): node.get("node.name") for node in graph.of_kind("Node")}
    ends = [(link.get("link.output.node"), link.get("link.input.node")) for link in graph.links()]
    return {(names.get(source, "?"), names.get(sink, "?")) for source, sink in ends}


def test_each_hears_the_real_microphone_and_speaks_into_its_own(pair: tuple[NamedDaemon, NamedDaemon]) -> None:
    own = {("rvcd-deep", "rvcd-deep-microphone"), ("rvcd-high", "rvcd-high-microphone")}
    real = {("real-microphone", "rvcd-deep"), ("real-microphone", "rvcd-high")}
    eventually(lambda: links() == own | real, "the links")
    for daemon in pair:
        daemon.osc.until(lambda stats: stats.state == "live")

    # Without it one of the two microphones of rvcd is the server's default source, and the only kind there is.
    (node,) = read_graph().nodes_named("real-microphone")
    run_tool("pw-cli", "destroy", str(node.id))
    for daemon in pair:
        daemon.osc.until(lambda stats: stats.state == "no-device")
    assert links() == own

    make_real_microphone()
    eventually(lambda: links() == own | real, "the links, again")
    for daemon in pair:
        daemon.osc.until(lambda stats: stats.state == "live")
        assert "rvcd's own microphone was connected" not in daemon.log
