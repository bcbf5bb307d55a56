"""README.md keeps its word: what it names exists, what it tabulates is what the code holds."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from rvcctl.cli import EXIT_FAILED, EXIT_NO_DAEMON, EXIT_USAGE
from rvcctl.cli import app as rvcctl_app
from rvcctl.names import MEASURED, SETTABLE, parse_value
from rvcctl.widgets.help_screen import KEYS
from rvcd.assets import ASSETS
from rvcd.cli import INTERNAL_ERROR
from rvcd.cli import app as rvcd_app
from rvcd.config import LATENCY_PRESETS, Settings, parse_config
from rvcd.control.telemetry import meter_messages
from rvcd.control.verbs import SENT_ONLY, find_verb, reference_markdown
from rvcd.geometry import SYNTHESIS_TAIL_MS
from rvcd.protocol import DEFAULT_PORT, F0_METHODS, PREFIX, State, Stats

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```$", "", TEXT))
PROGRAMS = {"rvcd": typer.main.get_command(rvcd_app), "rvcctl": typer.main.get_command(rvcctl_app)}


def blocks(language: str) -> list[str]:
    """Return what stands between ```language and ```."""
    return [text for name, text in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", TEXT) if name == language]


def shell_commands() -> list[list[str]]:
    """Return every command of the shell blocks and of the inline code, split into words, without `pw-jack` and variables."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    commands = []
    for line in [*lines, *SPANS]:
        if line in PROGRAMS or not re.search(r"(^|[ /])(rvcd|rvcctl)( |$)|^make ", line):
            continue
        for part in line.split(" && "):
            words = [word for word in shlex.split(part, comments=True) if not re.match(r"[A-Z_]+=", word)]
            if words and words[0] in ("pw-jack", "sudo"):
                words = words[1:]
            if words and (words[0].removeprefix(".venv/bin/") in PROGRAMS or words[0] == "make"):
                commands.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return commands


def test_it_holds_the_osc_reference_as_the_code_generates_it() -> None:
    inside = re.search(r"<!-- osc-reference: .*? -->\n(.*?)<!-- end of osc-reference -->", TEXT, re.DOTALL)
    assert inside is not None
    assert inside[1] == reference_markdown()


def test_the_first_screen_names_both_commands_says_what_is_heard_and_opens_rvcctl() -> None:
    first_screen = " ".join(TEXT.splitlines()[:40])
    for words in ("`make run`", "`make test`", "built-in voice", "preview", ".venv/bin/rvcctl"):
        assert words in first_screen


def test_it_says_what_could_not_be_tried() -> None:
    assert re.search(r"No HuBERT, RMVPE or voice file trained by others could be tried", TEXT)


def test_every_command_it_names_exists_with_its_options() -> None:
    commands = shell_commands()
    assert {words[0] for words in commands} == {"rvcd", "rvcctl", "make"}
    makefile = (ROOT / "Makefile").read_text()
    for words in commands:
        if words[0] == "make":
            target = words[1]
            assert re.search(rf"(?m)^{re.escape(target)}:", makefile), words
            continue
        command, rest = PROGRAMS[words[0]], words[1:]
        while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
            assert rest[0] in command.commands, f"{words}: no command {rest[0]}"
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for param in command.params for option in param.opts} | {"--help"}
        for word in rest:
            assert not word.startswith("--") or word in known, f"{words}: no option {word}"


def test_every_name_given_to_rvcctl_exists_and_takes_its_value() -> None:
    seen = 0
    for words in shell_commands():
        if words[:2] == ["rvcctl", "get"]:
            assert words[2] in {*SETTABLE, *MEASURED, "note", "cents"}, words
            seen += 1
        if words[:2] == ["rvcctl", "set"]:
            parse_value(SETTABLE[words[2]], words[3])
            seen += 1
    assert seen >= 4
    for method in F0_METHODS:
        assert method in TEXT


def section_of(path: str) -> type[BaseModel]:
    """Return the settings section that a dotted path names. Raises KeyError when there is none."""
    model: type[BaseModel] = Settings
    for name in path.split(".") if path else ():
        model = model.model_fields[name].annotation  # type: ignore[assignment]
    return model


def test_every_configuration_key_it_names_exists() -> None:
    sections = "|".join(Settings.model_fields)
    keys = {span for span in SPANS for span in re.findall(rf"^(?:{sections})(?:\.[a-z_0-9]+)+", span)}
    assert len(keys) >= 10
    for key in keys:
        parent, _, name = key.rpartition(".")
        assert name in section_of(parent).model_fields, key
    audio_keys = {match for span in SPANS for match in re.findall(r"^([a-z_0-9]+) = ", span)}
    known = {name for model in (section_of(p) for p in ("audio", "audio.virtual", "engine")) for name in model.model_fields}
    assert audio_keys <= known


def test_every_configuration_it_shows_is_valid() -> None:
    shown = blocks("toml")
    assert len(shown) >= 3
    for text in shown:
        parse_config(tomllib.loads(text), ROOT / "example.toml")


def test_the_latency_presets_are_those_of_the_code() -> None:
    for name, budget in LATENCY_PRESETS.items():
        row = re.search(rf"(?m)^\| `{name}`.*$", TEXT)
        assert row is not None, name
        total = budget.block_ms + budget.lookahead_ms + budget.deadline_ms + round(SYNTHESIS_TAIL_MS)
        assert [int(n) for n in re.findall(r"(\d+) ms", row[0])] == [
            budget.block_ms, budget.lookahead_ms, budget.deadline_ms, total,
        ]  # fmt: skip
    assert f"lookahead + {SYNTHESIS_TAIL_MS:.0f} + deadline" in TEXT


def test_every_test_it_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) >= 5
    for file, name in named:
        assert re.search(rf"(?m)^(async )?def {name}\(", (ROOT / file).read_text()), f"{file}::{name}"
    for path in re.findall(r"\btests/[\w/]+(?:\.py)?", TEXT):
        assert (ROOT / path).exists(), path


def layout() -> dict[str, str]:
    """Return path -> description of the layout's block; folders end with a slash."""
    block = next(block for block in blocks("") if block.startswith("rvcd/\n"))
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, text = line.strip().partition(" ")
        path = "".join([*folders[:depth], name])
        found[path] = text.strip()
        if name.endswith("/"):
            folders = [*folders[:depth], name]
    return found


def test_the_layout_names_what_is_there_and_nothing_else() -> None:
    named = layout()
    for path in named:
        assert (ROOT / path).exists(), f"{path} is in the README and not in the tree"
    summed_up = tuple(path for path, text in named.items() if path.endswith("/") and text)
    for package in ("rvcd", "rvcctl"):
        for file in (ROOT / package).rglob("*.py"):
            path = file.relative_to(ROOT).as_posix()
            assert file.name == "__init__.py" or path in named or path.startswith(summed_up), f"{path} is not in the layout"


def test_keys_states_exit_codes_and_files_are_those_of_the_code() -> None:
    keys = {key for keys, _ in KEYS for key in keys.split()} - {"esc"}
    for key in keys:
        assert f"`{key}`" in TEXT, key
    for state in State:
        assert f"`{state.value}`" in TEXT, state
    codes = f"0 done, {EXIT_FAILED} refused or a bad value, {EXIT_USAGE} wrong usage, {EXIT_NO_DAEMON} no daemon"
    assert codes in TEXT
    assert f"{INTERNAL_ERROR} a fault" in TEXT
    assert all(asset.name.split()[0].split("/")[-1] in TEXT for asset in ASSETS)


def test_every_osc_address_it_names_exists() -> None:
    sent_only = {PREFIX + path for path in (*SENT_ONLY, "/*")}
    assert {PREFIX + address for address, _ in meter_messages(Stats())} <= sent_only
    for block in [*SPANS, *(line for text in blocks("sh") for line in text.splitlines())]:
        for address in re.findall(r"(?<![\w.])/rvc/[\w/*]+", block):
            assert address in sent_only or address.endswith("/N") or find_verb(address[len(PREFIX) :]), address
    assert f"localhost {DEFAULT_PORT} /rvc/" in TEXT


@pytest.mark.parametrize("folder", ["work", "tmp", "root"])
def test_no_path_of_a_developers_machine_is_in_it(folder: str) -> None:
    assert f"/{folder}/" not in TEXT


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("http") or (ROOT / target).exists(), target
