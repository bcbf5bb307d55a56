"""Turns what pydantic finds wrong with a configuration into sentences: the key's path, the value, the bound, a suggestion."""

from __future__ import annotations

import difflib
import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"), (int, "a whole number"), (float, "a number"), (str, "text"), (list, "a list"), (dict, "a table"),
)  # fmt: skip
"""Python's types in the words of a TOML file; bool stands before int, whose subclass it is."""


def sentences(model: type[BaseModel], error: ValidationError) -> list[str]:
    """Return one sentence for each problem, in the model's order, each starting with the key's dotted path."""
    return [_sentence(model, found["type"], found["loc"], found["input"], found["msg"]) for found in error.errors()]


def _sentence(model: type[BaseModel], kind: str, loc: Sequence[int | str], value: Any, message: str) -> str:
    path = dotted(loc)
    owner, field = _find(model, loc)
    annotation = field.annotation if field is not None else None
    if loc and isinstance(loc[-1], int):
        annotation = get_args(annotation)[0]  # an item of a list
    takes = "a path as text" if field is None and owner.model_config.get("extra") == "allow" else _takes(field, annotation)
    if kind == "extra_forbidden":
        return f"{path}: unknown key{_suggest_key(model, owner, loc)}"
    if kind == "missing":
        return f"{path}: is required; it takes {takes}"
    if kind == "value_error":
        return f"{path}: {message.removeprefix('Value error, ')}"
    if kind == "literal_error":
        return f"{path}: {show(value)} is not {takes}{did_you_mean(str(value), _choices(annotation))}"
    if kind == "greater_than_equal":
        return f"{path}: {show(value)} is too small; it takes {takes}"
    if kind == "less_than_equal":
        return f"{path}: {show(value)} is too large; it takes {takes}"
    if kind == "multiple_of":
        return f"{path}: {show(value)} does not fit; it takes {takes}"
    if kind == "finite_number":
        return f"{path}: {show(value)} is not finite; it takes {takes}"
    if kind.endswith("_type"):
        return f"{path}: {show(value)} is {_kind_of(value)}; it takes {takes}"
    return f"{path}: {show(value)} does not fit: {message}"


def dotted(loc: Sequence[int | str]) -> str:
    """Return ('osc', 'feedback', 0, 'port') as 'osc.feedback[0].port'."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return "; did you mean 'x'?" for the known word closest to word, or nothing."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def show(value: Any) -> str:
    """Return a value as a TOML file writes it, cut to a length that fits a line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        text = f"'{value}'" if isinstance(value, str) else str(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def _suggest_key(root: type[BaseModel], owner: type[BaseModel], loc: Sequence[int | str]) -> str:
    """Return a suggestion for an unknown key: a similar one beside it, else the section that has one of this name."""
    key = str(loc[-1])
    suggestion = did_you_mean(key, list(owner.model_fields))
    if suggestion:
        return suggestion
    for name, field in root.model_fields.items():
        section = _model_in(field.annotation)
        if section is not None and key in section.model_fields:
            return f"; '{key}' belongs in [{name}]"
    return f"; known here: {', '.join(owner.model_fields)}"


def _find(model: type[BaseModel], loc: Sequence[int | str]) -> tuple[type[BaseModel], FieldInfo | None]:
    """Return the model that holds the last key of loc, and that key's field (None when it has no such key)."""
    owner, field = model, None
    for part in loc:
        if isinstance(part, int):
            continue
        if field is not None:
            owner = _model_in(field.annotation) or owner
        field = owner.model_fields.get(part)
    return owner, field


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model an annotation holds: itself, or the items of its tuple."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _choices(annotation: Any) -> list[str]:
    return [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []


def _takes(field: FieldInfo | None, annotation: Any) -> str:
    """Return what a key takes: 'a whole number, 16..4096' or 'one of low, balanced, safe'."""
    if field is None:
        return "another value"
    if field.description:
        return field.description
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(_choices(annotation))}"
    if get_origin(annotation) is tuple:
        return "a list"
    words = next((text for kind, text in KINDS if annotation is kind), "a table" if _model_in(annotation) else "text")
    bounds = {
        name: bound for item in field.metadata for name in ("ge", "le", "multiple_of") if (bound := getattr(item, name, None))
    }
    if "le" in bounds:
        words += f", {bounds.get('ge', 0):g}..{bounds['le']:g}"
    if "multiple_of" in bounds:
        words += f" in steps of {bounds['multiple_of']}"
    return words


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return next((text for kind, text in KINDS if isinstance(value, kind)), type(value).__name__)
