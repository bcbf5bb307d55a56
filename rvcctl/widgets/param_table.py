"""The live parameters, a group at a time: one row each with a slider, to be moved with keys, wheel or mouse."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType

from rvcctl.messages import ParamMoved, ParamPlaced
from rvcctl.steps import coarse_step, fine_step, snapped, value_text
from rvcctl.widgets.row_list import MARK_CELLS, RowList
from rvcctl.widgets.slider import slider_text, value_of
from rvcd import protocol
from rvcd.params import BY_NAME, GROUPS, PARAMS, VOICE_PARAMS, Param

NAME_CELLS, VALUE_CELLS, UNIT_CELLS, RANGE_CELLS = 15, 8, 10, 9
MIN_SLIDER_CELLS, MAX_SLIDER_CELLS = 5, 49
"""49 cells give a pitch of -24..24 one cell a semitone."""
ROWS = {group: range(names.index(group), len(names) - names[::-1].index(group)) for names in [[param.group for param in PARAMS]]
        for group in GROUPS}  # fmt: skip
"""The rows of each group, which stand together in the table of parameters."""
TAB_GAP, HEAD_HINT = "   ", "p next"


class ParamTable(RowList):
    """Name, slider, value with unit, range. Fed by show().

    The rows are one list that the cursor walks through; what is seen is its group, under a line with the names of all groups,
    and below it what the parameter under the cursor does. The other groups say in that line what matters most of them.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "less", show=False),
        Binding("right", "step(1)", "more", show=False),
        Binding("shift+left", "coarse(-1)", "much less", show=False),
        Binding("shift+right", "coarse(1)", "much more", show=False),
        Binding("ctrl+left", "fine(-1)", "a little less", show=False),
        Binding("ctrl+right", "fine(1)", "a little more", show=False),
        Binding("0,backspace", "reset", "default", show=False),
    ]

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._values: tuple[float | None, ...] = (None,) * len(PARAMS)
        self._rows = len(VOICE_PARAMS)
        self._pitch_word = ""
        self._tabs: tuple[tuple[str, str], ...] = ()
        self._dragged: int | None = None

    def show(self, values: tuple[float | None, ...], *, with_desk: bool = True, pitch_word: str = "") -> None:
        """Show the values of PARAMS, in their order; None for an unknown one. with_desk: also the rows after the voice's.

        pitch_word: in the place of the pitch's unit, what auto adds to it.
        """
        if pitch_word != self._pitch_word:
            self._pitch_word = pitch_word
            self.refresh_row(PARAMS.index(BY_NAME["pitch"]))
        before, self._values = self._values, values
        if self._tabs != (tabs := self._tab_texts()):
            self._tabs = tabs
            self.refresh()
        if self._rows != (rows := len(PARAMS if with_desk else VOICE_PARAMS)):
            self._rows = rows
            self.refresh_rows()
        for row, (old, new) in enumerate(zip(before, values, strict=True)):
            if old != new:
                self.refresh_row(row)

    def row_count(self) -> int:
        """Return how many parameters are shown."""
        return self._rows

    def shown_rows(self) -> range:
        """Return the rows of the cursor's group."""
        rows = ROWS[self._param.group]
        return range(rows.start, min(rows.stop, self._rows))

    def head(self) -> list[Segment]:
        """Return the names of the groups, the shown one in brackets, the others with what matters most of them."""
        segments = [Segment(" " * (MARK_CELLS - 1), self.rich_style)]
        for group, said in self._tabs or self._tab_texts():
            shown = group == self._param.group
            segments += [
                Segment(f"[{group}]" if shown else f" {group} ", self.rich_style + Style(bold=shown)),
                Segment("" if shown else said, self.part("dim")),
                Segment(TAB_GAP, self.rich_style),
            ]
        used = sum(segment.cell_length for segment in segments)
        return [*segments, Segment(HEAD_HINT.rjust(max(0, self.size.width - used - 1)), self.part("dim"))]

    def _tab_texts(self) -> tuple[tuple[str, str], ...]:
        """Return (group, what is said of it while another is shown)."""
        pitch, gate, autotune, key, scale = (
            value_text(BY_NAME[name], self._values[PARAMS.index(BY_NAME[name])])
            for name in ("pitch", "gate", "autotune", "autotune_key", "autotune_scale")
        )
        notes = scale if scale == BY_NAME["autotune_scale"].choices[0] else f"{key} {scale}"
        tune = autotune if autotune in ("off", "–") else f"{autotune} {notes}"
        said = {"voice": f"pitch {pitch}", "tune": tune, "levels": f"gate {gate}"}
        return tuple((group, said[group]) for group in GROUPS)

    def draw_row(self, index: int, cells: int, plain: Style) -> list[Segment]:
        """Return name, slider, value and, where there is room, the range."""
        param, value = PARAMS[index], self._values[index]
        slider_cells, with_range = self._slider_cells()
        slider, first, end = slider_text(param, value, slider_cells)
        segments = [
            Segment(f"{param.name:<{NAME_CELLS}}", plain),
            Segment(slider[:first], self.part("dim")),
            Segment(slider[first:end], self.part("value")),
            Segment(slider[end:], self.part("dim")),
        ]
        if param.choices:
            return [*segments, Segment(f"   {value_text(param, value)}", plain + Style(bold=True))]
        segments += [
            Segment(value_text(param, value).rjust(VALUE_CELLS), plain + Style(bold=True)),
            Segment(f" {(param.name == 'pitch' and self._pitch_word) or param.unit:<{UNIT_CELLS - 1}}", plain),
        ]
        if with_range:
            segments.append(Segment(f"{param.low:g}..{param.high:g}".rjust(RANGE_CELLS), self.part("dim")))
        return segments

    def watch_cursor(self, before: int, after: int) -> None:
        """Redraw everything: the footnote, and perhaps the group, change with the cursor."""
        super().watch_cursor(before, after)
        self.refresh()

    def footnote(self) -> str:
        """Return what the parameter under the cursor does, and below it its range and default."""
        param, room = self._param, max(1, self.size.width - MARK_CELLS - 1)
        default = param.word(param.default) if param.choices else f"{param.default:g}"
        span = param.range_text()
        with_default = f"{span} · default {default}"
        if len(with_default) > room:
            with_default = span if len(span) <= room else f"{span[: room - 1]}…"
        return f"{param.doc}\n{with_default}"

    def action_page(self, pages: int) -> None:
        """Walk to the first row of the next group or the one before, and round."""
        self.cursor = ROWS[GROUPS[(GROUPS.index(self._param.group) + pages) % len(GROUPS)]].start

    def action_step(self, steps: int) -> None:
        """Move by steps."""
        self._move(steps * self._param.step)

    def action_coarse(self, steps: int) -> None:
        """Move by large steps."""
        self._move(steps * coarse_step(self._param))

    def action_fine(self, steps: int) -> None:
        """Move by the smallest steps."""
        self._move(steps * fine_step(self._param))

    def action_reset(self) -> None:
        """Go back to the default."""
        self.post_message(ParamPlaced(self._param, self._param.default))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Choose a row; on its slider, move the knob there and let it follow the mouse."""
        row = self.row_at(event.y)
        if event.button == 1 and event.y == 0 and (group := self._group_at(event.x)) is not None:
            self.cursor = ROWS[group].start
        if row is None or event.button != 1:
            return
        self.cursor = row
        slider_cells, _ = self._slider_cells()
        if 0 <= event.x - self._slider_x < slider_cells:
            self._dragged = row
            self.capture_mouse()
            self._place(event)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Let the knob follow."""
        if self._dragged is not None:
            self._place(event)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Let go of the knob."""
        if self._dragged is not None:
            self._dragged = None
            self.release_mouse()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """More of the parameter under the mouse; with shift a little more."""
        self._wheel(event, 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Less of the parameter under the mouse; with shift a little less."""
        self._wheel(event, -1)

    def _group_at(self, x: int) -> str | None:
        """Return the group whose name or text is drawn at a cell of the head."""
        end = MARK_CELLS - 1
        for group, said in self._tabs:
            start, end = end, end + len(group) + 2 + (0 if group == self._param.group else len(said))
            if start <= x < end:
                return group
            end += len(TAB_GAP)
        return None

    @property
    def _param(self) -> Param:
        return PARAMS[self.cursor]

    @property
    def _slider_x(self) -> int:
        return MARK_CELLS + NAME_CELLS

    def _move(self, change: float) -> None:
        self.post_message(ParamMoved(self._param, change))

    def _wheel(self, event: events.MouseScrollUp | events.MouseScrollDown, direction: int) -> None:
        event.stop()
        row = self.row_at(event.y)
        if row is not None:
            self.cursor = row
            self._move(direction * (fine_step(self._param) if event.shift else self._param.step))

    def _place(self, event: events.MouseDown | events.MouseMove) -> None:
        """Put the dragged knob under the mouse, on the grid of steps; with shift on the fine one."""
        param = PARAMS[self._dragged if self._dragged is not None else self.cursor]
        cells, _ = self._slider_cells()
        value = value_of(param, min(max(event.x - self._slider_x, 0), cells - 1), cells)
        self.post_message(ParamPlaced(param, snapped(param, value, fine_step(param) if event.shift else param.step)))

    def _slider_cells(self) -> tuple[int, bool]:
        """Return how wide the sliders are, and whether there is room for the ranges."""
        room = self.size.width - MARK_CELLS - NAME_CELLS - VALUE_CELLS - UNIT_CELLS - 1
        with_range = room - RANGE_CELLS >= 2 * MIN_SLIDER_CELLS
        cells = room - RANGE_CELLS * with_range
        return min(max(cells, MIN_SLIDER_CELLS), MAX_SLIDER_CELLS), with_range


def pitch_word(stats: protocol.Stats | None) -> str:
    """Return what stands beside the pitch while it is auto's: what is added, or that the voice has no register; else ""."""
    if stats is None or stats.pitch_mode != protocol.PITCH_AUTO:
        return ""
    return f"auto {stats.pitch_auto:+d}" if stats.register_hz else "no auto"
