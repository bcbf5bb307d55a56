"""The manual keeps its word: what README.md, CHANGELOG.md and docs/ name exists, what they tabulate is what the code holds."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

from rvcctl.cli import EXIT_FAILED, EXIT_NO_DAEMON, EXIT_USAGE
from rvcctl.cli import app as rvcctl_app
from rvcctl.names import READABLE, SETTABLE, parse_value
from rvcctl.widgets.help_screen import KEYS
from rvcd.cli.main import INTERNAL_ERROR
from rvcd.cli.main import app as rvcd_app
from rvcd.config.settings import LATENCY_PRESETS, Settings, parse_config
from rvcd.geometry import SYNTHESIS_TAIL_MS
from rvcd.osc.telemetry import meter_messages
from rvcd.osc.verbs import SENT_ONLY, find_verb, reference_markdown
from rvcd.protocol import DEFAULT_PORT, F0_METHODS, GROUPS, PREFIX, State, Stats
from rvcd.voices.assets import ASSETS, PUBLISHED
from rvcd.voices.voice_toml import VoiceSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README, CHANGELOG = ROOT / "README.md", ROOT / "CHANGELOG.md"
RECORDS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
PAGES = [README, CHANGELOG, *sorted(DOCS.rglob("*.md"))]
PROGRAMS: dict[str, Any] = {"rvcd": typer.main.get_command(rvcd_app), "rvcctl": typer.main.get_command(rvcctl_app)}
SOURCE_FOLDERS = ("rvcd", "rvcctl", "systemd", "tools", "config", "examples")
MAX_README_LINES = 140
NOT_OURS = (
    "gain_db", "embedder_model", "embedder_name", "embedder_output_layer", "hubert_base",
    "f0_hz", "prior_noise", "source_noise", "activation_noise", "hop_samples", "rate_hz", "unit_width", "unit_layer",
)  # fmt: skip
"""A key of voice.toml; what other trainers write into their files; what an exported voice takes, and its metadata."""


JARGON = ("rig", "live_rig", "lane", "pace", "guard", "incoming", "assembly", "closeness", "fidelity", "stranger", "strangers")
STALE = (
    "only the test voices are listed",
    "does not open the device and does not see this",
    "It begins at the moment of the request",
    "DESIGN.md",
    "pipx",
    "pip install rvcd",
    "pip install 'rvcd",
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text("utf-8"))


def spans(page: Path) -> list[str]:
    """Return what stands in inline code."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def blocks(page: Path, language: str) -> list[str]:
    """Return what stands between ```language and ```, at any indentation."""
    found = re.findall(r"(?ms)^( *)```(\w*)\n(.*?)^ *```$", page.read_text("utf-8"))
    return [re.sub(rf"(?m)^{indent}", "", text) for indent, name, text in found if name == language]


def lines_of(page: Path, *languages: str) -> list[str]:
    """Return the lines of all blocks of these languages."""
    return [line for language in languages for block in blocks(page, language) for line in block.splitlines()]


def shell_commands(page: Path) -> list[list[str]]:
    """Return the commands of shell blocks and of inline code for rvcd, rvcctl and make, without what is put before them."""
    commands = []
    for line in [*lines_of(page, "sh"), *spans(page)]:
        if line in PROGRAMS or not re.search(r"(^|[ /])(rvcd|rvcctl)( |$)|^make ", line):
            continue
        for part in line.split(" && "):
            words = [word for word in shlex.split(part, comments=True) if not re.match(r"[A-Z_]+=", word)]
            if words and words[0] in ("pw-jack", "sudo"):
                words = words[1:]
            if words and (words[0].removeprefix(".venv/bin/") in PROGRAMS or words[0] == "make"):
                commands.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return commands


def commands_below(command: Any) -> Iterator[Any]:
    """Yield a command and everything below it."""
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from commands_below(below)


def options_of(commands: Iterable[Any]) -> set[str]:
    return {"--help"} | {
        option for command in commands for param in command.params for option in (*param.opts, *param.secondary_opts)
    }


def slug(heading: str) -> str:
    """Return the anchor that a heading gets: lower case, dashes for spaces, letters, digits, dashes and underscores only."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"(?m)^#+ (.+)$", prose(page))}


# ---- links


@every_page
def test_its_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert ROOT in there.parents, f"{target} leads out of the tree"
        assert not anchor or anchor in anchors(there), target


def linked(page: Path) -> set[Path]:
    files = re.findall(r"\]\(([^)#\s]+)", prose(page))
    return {(page.parent / file).resolve() for file in files if not file.startswith("http")}


def test_the_index_lists_every_page() -> None:
    pages = {page for page in DOCS.glob("*.md") if page.name != "README.md"}
    assert pages <= linked(DOCS / "README.md")


def test_readme_leads_to_the_index_and_the_changelog() -> None:
    assert {DOCS / "README.md", CHANGELOG} <= linked(README)


# ---- README


def test_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= MAX_README_LINES


def test_the_first_screen_names_both_commands_says_what_is_heard_and_opens_rvcctl() -> None:
    first_screen = " ".join(README.read_text("utf-8").splitlines()[:40])
    for words in ("`make run`", "`make test`", "built-in voice", ".venv/bin/rvcctl"):
        assert words in first_screen


@pytest.mark.parametrize("page", [README, DOCS / "limits.md"], ids=name_of)
def test_what_could_not_be_tried_is_said(page: Path) -> None:
    assert "No HuBERT, RMVPE or voice file trained by others could be tried" in page.read_text("utf-8")


# ---- commands


@every_page
def test_every_command_it_names_exists_with_its_options(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for words in shell_commands(page):
        if words[0] == "make":
            assert re.search(rf"(?m)^{re.escape(words[1])}:", makefile), words
            continue
        command, rest = PROGRAMS[words[0]], words[1:]
        while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
            assert rest[0] in command.commands, f"{words}: no command {rest[0]}"
            command, rest = command.commands[rest[0]], rest[1:]
        for word in rest:
            assert not word.startswith("--") or word in options_of([command]), f"{words}: no option {word}"


@every_page
def test_every_option_it_names_alone_is_one_of_some_command(page: Path) -> None:
    known = options_of(command for program in PROGRAMS.values() for command in commands_below(program))
    for span in spans(page):
        assert not re.fullmatch(r"--[a-z-]+", span) or span in known, span


@every_page
def test_every_name_given_to_rvcctl_exists_and_takes_its_value(page: Path) -> None:
    for words in shell_commands(page):
        if words[:2] in (["rvcctl", "get"], ["rvcctl", "watch"]):
            options = (word for word in words[2:] if not word.startswith("-") and not word.isdigit() and word != "...")
            for word in options:
                assert word in READABLE, words
        if words[:2] == ["rvcctl", "set"] and len(words) == 4 and words[3] != "NAME":
            parse_value(SETTABLE[words[2]], words[3])


@every_page
def test_every_test_it_names_exists(page: Path) -> None:
    tests = {name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", file.read_text())}
    for name in re.findall(r"`(test_\w+)`", prose(page)):
        assert name in tests, name
    for line in [*spans(page), *lines_of(page, "sh")]:
        for words in re.findall(r"pytest .*-k (\w+)", line):
            assert words == "NAME" or any(words in name for name in tests), line


# ---- names of the program


def section_of(path: str) -> type[BaseModel]:
    """Return the settings section that a dotted path names. Raises KeyError when there is none."""
    model: type[BaseModel] = Settings
    for name in path.split(".") if path else ():
        model = model.model_fields[name].annotation  # type: ignore[assignment]
    return model


@every_page
def test_every_configuration_key_it_names_exists(page: Path) -> None:
    sections = "|".join(Settings.model_fields)
    for span in spans(page):
        for key in re.findall(rf"^(?:{sections})(?:\.[a-z_0-9]+)+(?!\w*[./])", span):
            parent, _, name = key.rpartition(".")
            assert name in section_of(parent).model_fields or (ROOT / "config" / key).exists() or name in ("toml", "json"), key
        for section in re.findall(rf"^((?:{sections})[a-z.]*)\.\*$", span):
            assert issubclass(section_of(section), BaseModel), span
        for key in re.findall(r"^([a-z_0-9]+) = ", span):
            known = (section_of(name).model_fields for name in ("audio", "audio.virtual", "engine"))
            assert any(key in fields for fields in known), span


@every_page
def test_every_configuration_it_shows_is_valid(page: Path) -> None:
    for text in blocks(page, "toml"):
        parse_config(tomllib.loads(text), ROOT / "example.toml")


def keys_below(model: type[BaseModel]) -> set[str]:
    """Return the names of all keys of a section and of the sections in it."""
    below = (field.annotation for field in model.model_fields.values())
    deeper = (keys_below(kind) for kind in below if isinstance(kind, type) and issubclass(kind, BaseModel))
    return set(model.model_fields).union(*deeper)


@every_page
def test_every_name_with_an_underscore_is_a_key_or_a_name_of_rvcctl(page: Path) -> None:
    known = {*keys_below(Settings), *(one.name for one in fields(VoiceSettings)), *NOT_OURS, *READABLE}
    for span in spans(page):
        assert not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", span) or span.startswith("test_") or span in known, span


def test_every_section_of_the_configuration_is_listed() -> None:
    named = set(re.findall(r"`([a-z]+)\.\*`", prose(DOCS / "configuration.md")))
    assert named == set(Settings.model_fields)


@every_page
def test_every_osc_address_it_names_exists(page: Path) -> None:
    sent_only = {PREFIX + path for path in (*SENT_ONLY, "/*")}
    for text in [*spans(page), *lines_of(page, "sh", "")]:
        for address in re.findall(r"(?<![\w.])/rvc/[\w/*]+", text):
            assert address in sent_only or address.endswith("/N") or find_verb(address[len(PREFIX) :]), address
        assert "localhost" not in text or "osc" not in text or f"localhost {DEFAULT_PORT} " in text


@every_page
def test_every_environment_variable_it_names_is_read_somewhere(page: Path) -> None:
    sources = "".join(file.read_text() for folder in ("rvcd", "rvcctl", "tests") for file in (ROOT / folder).rglob("*.py"))
    for name in re.findall(r"\bRVCD_[A-Z_]+", page.read_text("utf-8")):
        assert f'"{name}"' in sources, name


@every_page
def test_every_file_and_folder_it_names_exists(page: Path) -> None:
    folders = "|".join((*SOURCE_FOLDERS, "docs", "tests"))
    for span in spans(page):
        for path in re.findall(rf"(?:^|[ =])((?:{folders})/[\w@./-]*)", span):
            assert (ROOT / path).exists(), path


def names_in_first_column(page: Path, heading: str) -> list[str]:
    """Return the inline code of the first column of the table below a heading."""
    below = re.search(rf"(?ms)^## {heading}$(.*?)(?=^## |\Z)", page.read_text("utf-8"))
    assert below is not None, heading
    return [name for row in re.findall(r"(?m)^\|([^|]+)\|", below[1]) for name in re.findall(r"`([^`]+)`", row)]


def test_the_states_are_those_of_the_code_in_their_order_of_precedence() -> None:
    listed = names_in_first_column(DOCS / "rvcctl.md", "States")
    assert listed == [state.value for state in State]


def test_every_name_of_rvcctl_is_explained() -> None:
    listed = names_in_first_column(DOCS / "rvcctl.md", "Names")
    assert len(listed) == len(set(listed))
    assert set(listed) == set(READABLE)
    assert {method for method in F0_METHODS if method in (DOCS / "rvcctl.md").read_text("utf-8")} == set(F0_METHODS)


def test_the_keys_of_the_screen_are_those_of_its_help() -> None:
    text = (DOCS / "rvcctl.md").read_text("utf-8")
    for key in {key for keys, _ in KEYS for key in keys.split()} - {"esc"}:
        assert f"`{key}`" in text, key


def test_the_exit_codes_are_those_of_the_code() -> None:
    codes = f"0 done, {EXIT_FAILED} refused or a bad value, {EXIT_USAGE} wrong usage, {EXIT_NO_DAEMON} no daemon"
    assert codes in (DOCS / "rvcctl.md").read_text("utf-8")
    assert f"{INTERNAL_ERROR} a fault" in (DOCS / "configuration.md").read_text("utf-8")


def test_the_model_files_are_those_that_rvcd_knows() -> None:
    text = (DOCS / "voices.md").read_text("utf-8")
    assert all(file.name.split()[0].split("/")[-1] in text for file in PUBLISHED)
    assert names_in_first_column(DOCS / "voices.md", "Model files") == [asset.name for asset in ASSETS]


# ---- OSC, latency


def test_the_osc_reference_is_what_the_code_generates() -> None:
    inside = re.search(
        r"<!-- osc-reference: .*? -->\n(.*?)<!-- end of osc-reference -->", (DOCS / "osc.md").read_text("utf-8"), re.DOTALL
    )
    assert inside is not None
    assert inside[1] == reference_markdown()


def test_the_pushed_addresses_and_the_groups_are_in_the_reference() -> None:
    assert {PREFIX + address for address, _ in meter_messages(Stats())} <= {PREFIX + path for path in SENT_ONLY}
    assert names_in_first_column(DOCS / "osc.md", "Feedback") == list(GROUPS)


@pytest.mark.parametrize("page", [README, DOCS / "latency.md"], ids=name_of)
def test_the_latency_presets_are_those_of_the_code(page: Path) -> None:
    text = page.read_text("utf-8")
    for name, budget in LATENCY_PRESETS.items():
        row = re.search(rf"(?m)^\| `{name}`.*$", text)
        assert row is not None, name
        total = budget.block_ms + budget.lookahead_ms + budget.deadline_ms + round(SYNTHESIS_TAIL_MS)
        assert [int(n) for n in re.findall(r"(\d+) ms", row[0])] == [
            budget.block_ms, budget.lookahead_ms, budget.deadline_ms, total,
        ]  # fmt: skip


def test_the_sum_of_the_latency_has_the_synthesis_tail() -> None:
    assert f"lookahead + {SYNTHESIS_TAIL_MS:.0f} + deadline" in (DOCS / "latency.md").read_text("utf-8")


# ---- architecture, decisions, changelog


def test_the_map_of_folders_is_the_tree() -> None:
    named = set(names_in_first_column(DOCS / "architecture.md", "Folders"))
    packages = {f"rvcd/{file.parent.name}/" for file in (ROOT / "rvcd").glob("*/__init__.py")} | {
        "rvcd/",
        "rvcd/data/",
        "rvcctl/",
    }
    assert {name for name in named if name.startswith(("rvcd/", "rvcctl/"))} == packages
    assert all((ROOT / name).is_dir() for name in named)


def test_the_decisions_are_numbered_and_their_index_has_their_titles() -> None:
    index = (DOCS / "decisions" / "README.md").read_text("utf-8")
    rows = [f"| {int(record.name[:4])} | [{record_title(record)}]({record.name}) |" for record in RECORDS]
    assert len({record.name[:4] for record in RECORDS}) == len(RECORDS), "no number twice"
    assert re.findall(r"(?m)^\| \d+ \|.*$", index) == rows


def record_title(record: Path) -> str:
    return record.read_text("utf-8").splitlines()[0].partition(". ")[2]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_decision_has_context_decision_and_consequences(record: Path) -> None:
    text = record.read_text("utf-8")
    assert text.startswith(f"# {int(record.name[:4])}. ")
    parts = re.findall(r"(?ms)^## (\w+)\n\n(.+?)(?=\n\n## |\n\Z)", text)
    assert [name for name, _ in parts] == ["Context", "Decision", "Consequences"]


def test_the_changelog_names_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = CHANGELOG.read_text("utf-8")
    assert "## [Unreleased]" in text
    assert version in text


# ---- words


@every_page
def test_it_has_no_private_jargon_and_nothing_stale(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.findall(rf"(?i)\b(?:{'|'.join(JARGON)})\b", text) == []
    for sentence in STALE:
        assert sentence not in text


@every_page
@pytest.mark.parametrize("folder", ["work", "tmp", "root"])
def test_no_path_of_a_developers_machine_is_in_it(page: Path, folder: str) -> None:
    assert f"/{folder}/" not in page.read_text("utf-8")


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Yield (path, text) of the project's own files, this one excepted."""
    kinds = (".py", ".md", ".toml", ".service", ".sh", ".c", ".h", ".lua")
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    for file in (ROOT / name for name in listed.splitlines()):
        if file.suffix in kinds and file.exists() and file != Path(__file__):
            yield name_of(file), file.read_text("utf-8")


def test_nothing_points_to_a_file_that_is_not_in_the_tree_or_to_a_package_index_that_has_no_rvcd() -> None:
    wrong = re.compile(r"DESIGN\.md|pipx|pip install (?:-e )?'?rvcd")
    found = [(name, match[0]) for name, text in tracked_texts() for match in wrong.finditer(text)]
    assert found == []
