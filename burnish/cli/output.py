"""What commands write: one JSON value with ``--json``, otherwise tables for people."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 240
"""The width of a table that goes to a file or a pipe, where no terminal tells it."""

json_option = click.option("--json", "as_json", is_flag=True, help="Write one JSON value.")


def write_json(value: Any) -> None:  # noqa: ANN401
    """Write one JSON value to standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """Write a table to standard output; cells are plain text, never markup."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    console.print(table)
