"""How far uploads are, on standard error: a bar on a terminal, otherwise a line a quarter of a large file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from burnish.client import OnFileSent

_LARGE_BYTES = 32 * 2**20
_STEPS = 4


@contextmanager
def sending(*, quiet: bool) -> Iterator[OnFileSent]:
    """Show what is told of files on their way."""
    console = Console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        yield _by_lines(lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))
        return
    columns = (TextColumn("sending {task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def update(name: str, sent: int, size: int) -> None:
            task = tasks[name] if name in tasks else tasks.setdefault(name, bar.add_task(name, total=size))
            bar.update(task, completed=sent)

        yield update


def _by_lines(write: Callable[[str], None]) -> OnFileSent:
    told: dict[str, int] = {}

    def update(name: str, sent: int, size: int) -> None:
        step = _STEPS * sent // size
        if size >= _LARGE_BYTES and step > told.get(name, 0):
            told[name] = step
            write(f"sending {name}: {100 * step // _STEPS} % of {size / 2**20:.0f} MiB")

    return update
