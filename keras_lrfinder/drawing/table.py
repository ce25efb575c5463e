"""A small table, for a terminal and for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence

Rows = Sequence[Sequence[str]]


def text_table(rows: Rows) -> str:
    """Returns lines whose columns are aligned; the first is the head.

    Example:
    >>> print(text_table([["", "LR"], ["adam", "1e-3"]]))
          LR
    adam  1e-3
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip()
        for row in rows
    )


def html_table(rows: Rows) -> str:
    """Returns the same for a notebook, escaped."""
    lines = []
    for tag, row in zip(["th", *["td"] * (len(rows) - 1)], rows):
        cells = "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in row)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"
