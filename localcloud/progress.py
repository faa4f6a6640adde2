"""Shows progress: a spinner with the newest log line on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.markup import escape

from localcloud.processes import last_line

Refresh = Callable[[], None]


class Progress:
    """Shows steps and their measured times on the console. ``seconds`` has the times by step."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.seconds: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(escape(text), soft_wrap=True)

    @contextmanager
    def step(self, text: str, *logs: Path) -> Iterator[Refresh]:
        """Show a step that takes a while. Call the yielded function to show the newest line of the logs."""
        begun = monotonic()
        if self.console.is_terminal:
            with self.console.status(escape(text)) as status:
                yield lambda: status.update(f"{escape(text)}  [dim]{escape(_newest(logs, self.console.width))}[/dim]")
        else:
            self.say(f"… {text}")
            yield _nothing
        self.seconds[text] = monotonic() - begun
        self.console.print(f"[green]✓[/green] {escape(text)}  [dim]{self.seconds[text]:.1f} s[/dim]", soft_wrap=True)


def _newest(logs: tuple[Path, ...], width: int) -> str:
    lines = [line for line in map(last_line, logs) if line]
    return " · ".join(line[: width // (2 * len(lines))] for line in lines)


def _nothing() -> None:
    pass
