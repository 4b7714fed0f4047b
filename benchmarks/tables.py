"""Tables as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hloc_ext.formats.atomic import write_text


@dataclass
class Table:
    """What an evaluation prints.

    Attributes:
        title: what was measured.
        protocol: estimator, thresholds, image size and number of pairs, one sentence each.
        columns: names of the figures; a row may lack any.
        rows: figures by column, by method and condition.
        notes: printed below.
    """

    title: str
    protocol: Sequence[str]
    columns: Sequence[str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, **cells: Any) -> None:
        """Append a row; names of columns with other characters than letters are given as a dictionary."""
        self.rows.append(cells)

    def markdown(self) -> str:
        """The table with its title, protocol and notes."""
        cells = [[_text(row.get(column)) for column in self.columns] for row in self.rows]
        widths = [
            max(len(name), *(len(row[i]) for row in cells)) if cells else len(name)
            for i, name in enumerate(self.columns)
        ]
        lines = [f"### {self.title}", "", *(f"- {line}" for line in self.protocol), ""]
        lines.append(_line(self.columns, widths))
        lines.append("|" + "|".join("-" * (width + 2) for width in widths) + "|")
        lines += [_line(row, widths) for row in cells]
        return (
            "\n".join([*lines, *(["", *(f"- {note}" for note in self.notes)] if self.notes else [])]) + "\n"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "title": self.title,
            "protocol": list(self.protocol),
            "columns": list(self.columns),
            "rows": self.rows,
            "notes": self.notes,
        }


def save_tables(name: str, tables: Sequence[Table], machine: Sequence[str], folder: Path) -> None:
    """Write ``NAME.md`` and ``NAME.json``, with the description of the machine."""
    head = "\n".join(f"- {line}" for line in machine)
    write_text(folder / f"{name}.md", "\n".join([f"{head}\n", *(table.markdown() for table in tables)]))
    content = {"machine": list(machine), "tables": [table.to_dict() for table in tables]}
    write_text(folder / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return str(value)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
