"""Sharing a row's cells among amounts."""

from __future__ import annotations


def share_cells(amounts: tuple[int, ...], cells: int) -> list[int]:
    """Return whole cells for each amount, in proportion, at least one for each that is not zero; the sum is cells.

    Largest remainders get what rounding down leaves over. All zero when nothing is to be shared or there is no room.
    """
    wanted = [index for index, amount in enumerate(amounts) if amount > 0]
    widths = [0] * len(amounts)
    if not wanted or cells < len(wanted):
        return widths
    free, total = cells - len(wanted), sum(amounts)
    exact = {index: free * amounts[index] / total for index in wanted}
    for index in wanted:
        widths[index] = 1 + int(exact[index])
    by_remainder = sorted(wanted, key=lambda index: int(exact[index]) - exact[index])
    for index in by_remainder[: cells - sum(widths)]:
        widths[index] += 1
    return widths
