"""Commands whose output is closed, full, broken off or of another encoding: an exit code and a sentence, never a fault."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rvcd.standard_streams import can_show, text_stream

ROOT = Path(__file__).parents[1]
RVCD, RVCCTL = "from rvcd.cli.main import main; main()", "from rvcctl.cli import main; main()"
COMMANDS = [
    (RVCD, ("voice", "list")),
    (RVCD, ("voice", "list", "--json")),
    (RVCD, ("voice", "info", "built-in")),
    (RVCD, ("check",)),
    (RVCD, ("osc", "--markdown")),
    (RVCD, ("--help",)),
    (RVCCTL, ("--help",)),
    (RVCCTL, ("set", "--help")),
]
each_command = pytest.mark.parametrize(
    ("program", "words"), COMMANDS, ids=lambda value: "-".join(value) if value[0] != "f" else ""
)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose home is empty."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}


def run(program: str, words: Sequence[str], redirection: str, env: dict[str, str]) -> tuple[int, str]:
    """Run a command as a shell does; return its exit code and what it said on stderr."""
    line = f'exec "$0" -c "$1" "${{@:2}}" {redirection}'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, program, *words], capture_output=True, env=env, timeout=120, check=False
    )
    return done.returncode, done.stderr.decode()


@each_command
def test_a_full_disk_behind_the_output_is_said_in_one_sentence(program: str, words: Sequence[str], home: dict[str, str]) -> None:
    code, err = run(program, words, ">/dev/full", home)
    name = "rvcd" if program == RVCD else "rvcctl"
    assert code == 1
    assert err == f"{name}: cannot write the output: no space left on device; free some space, or write elsewhere\n"


@each_command
def test_a_closed_output_is_said_in_one_sentence(program: str, words: Sequence[str], home: dict[str, str]) -> None:
    code, err = run(program, words, ">&-", home)
    name = "rvcd" if program == RVCD else "rvcctl"
    assert code == 1
    assert err == f"{name}: cannot write the output: it is closed; use '>/dev/null' where it is not wanted\n"


@pytest.mark.parametrize(("program", "words"), [COMMANDS[0], COMMANDS[-1]])
def test_with_all_three_streams_closed_a_command_ends_with_its_code_and_makes_no_file_its_output(
    program: str, words: Sequence[str], home: dict[str, str]
) -> None:
    assert run(program, words, "<&- >&- 2>&-", home) == (1, "")


def test_what_cannot_be_told_on_stderr_is_lost_and_the_command_done(home: dict[str, str]) -> None:
    for redirection in (">/dev/null 2>/dev/full", ">/dev/null 2>&-"):
        assert run(RVCD, ("voice", "list"), redirection, home) == (0, "")
        assert run(RVCD, ("voice", "info", "nobody"), redirection, home) == (1, "")
        assert run(RVCCTL, ("dance",), redirection, home) == (2, "")


@pytest.mark.parametrize(
    ("program", "words", "code"), [(RVCD, ("osc", "--json"), 1), (RVCD, ("config",), 1), (RVCCTL, ("--help",), 1)]
)
def test_a_reader_that_leaves_is_no_failure_worth_a_word(
    program: str, words: Sequence[str], code: int, home: dict[str, str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", program, *words], stdout=writer, stderr=subprocess.PIPE, env=home, timeout=60, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp437", "utf-8"])
def test_names_that_an_encoding_lacks_are_written_readably(encoding: str, home: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "声 … é\udcff"
    folder.mkdir()
    (folder / "voice.pth").write_bytes((ROOT / "tests/data/parity/v2_40k_f0.pth").read_bytes())
    env = {**home, "PYTHONIOENCODING": encoding, "LC_ALL": "C.UTF-8"}
    for words, code in ((("voice", "info", str(folder / "voice.pth")), 0), (("voice", "info", str(folder / "none.pth")), 1)):
        done = subprocess.run([sys.executable, "-c", RVCD, *words], capture_output=True, env=env, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        assert b"none.pth: does not exist" in done.stderr or b"voice.pth" in done.stdout
        assert b"internal" not in done.stderr


@given(st.text(st.characters(exclude_categories=()), max_size=40), st.sampled_from(["ascii", "latin-1", "cp437", "utf-8"]))
def test_any_text_can_be_written_in_any_encoding_and_stays_as_it_is_where_it_can(text: str, encoding: str) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as read_end:
        with text_stream(io.FileIO(writer, "wb"), io.TextIOWrapper(io.BytesIO(), encoding=encoding)) as stream:
            stream.write(text)
        written = read_end.read().decode(encoding)
    assert written.isascii() or encoding != "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return
    assert written == text


@pytest.mark.parametrize(("encoding", "shown"), [("latin-1", False), ("ascii", False), ("utf-8", True)])
def test_an_encoding_is_known_to_show_the_screen_or_not(encoding: str, shown: bool) -> None:
    assert can_show(io.TextIOWrapper(io.BytesIO(), encoding=encoding), "█─") is shown


def test_the_screen_is_refused_where_the_terminal_cannot_show_it(home: dict[str, str]) -> None:
    controller, terminal = pty.openpty()
    env = {**home, "PYTHONIOENCODING": "latin-1", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", RVCCTL, "--demo"], stdin=terminal, stdout=terminal, stderr=terminal, env=env
    )
    os.close(terminal)
    said = b""
    try:
        while piece := os.read(controller, 4096):
            said += piece
    except OSError:  # how a terminal ends
        pass
    os.close(controller)
    assert process.wait(timeout=60) == 2
    assert b"needs a terminal and a locale of UTF-8, not iso8859-1: try LC_ALL=C.UTF-8" in said
