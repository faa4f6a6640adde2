"""Shows the demo while it runs: on a terminal pools, waits, prices and alarms, elsewhere plain lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from localcloud.demo.results import StepResult
from localcloud.demo.watch import Item, Watcher

LINES_OF_MESSAGES = 6


class Screen:
    """Shows finished steps, and below them, on a terminal, the current state of the cloud."""

    def __init__(self, console: Console, watcher: Watcher, offerings: list[str]) -> None:
        self._console = console
        self._watcher = watcher
        self._types = offerings
        self._doing = ""

    @contextmanager
    def open(self) -> Iterator[None]:
        """Show the live view until the block ends."""
        if not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._draw, console=self._console, refresh_per_second=4, transient=True):
            yield

    def doing(self, text: str) -> None:
        """Say what the demo waits for. Without a terminal, do not repeat the last text."""
        if text != self._doing and not self._console.is_terminal:
            self.say(f"… {text}")
        self._doing = text

    def show(self, when: str, text: str) -> None:
        """Replace the shown state. Without a terminal, print a line if the text is new."""
        if self._console.is_terminal:
            self._doing = f"{when} {text}"
        elif text != self._doing:
            self._doing = text
            self.say(f"{when} {text}")

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(Text(text), soft_wrap=True)

    def done(self, step: StepResult) -> None:
        """Print the result of a step."""
        mark, style = ("✓", "green") if step.passed else ("✗", "red")
        time = "" if step.seconds is None else f"  {step.seconds:.1f} s"
        bound = "" if step.bound is None else f" (at most {step.bound:g} s)"
        line = Text.assemble((mark, style), f" {step.name}: {step.seen}", (time + bound, "dim"))
        self._console.print(line, soft_wrap=True)

    def _draw(self) -> RenderableType:
        view = self._watcher.view
        pools = Table("pool", "wanted", "running", "starting", "noticed", "waiting", "why", box=None, padding=(0, 1))
        for name in sorted({*view.items, *view.statuses}):
            pools.add_row(name, *_pool_cells(view.statuses.get(name, {})))
        messages = [
            Text(one.subject, style="green" if one.subject.startswith("[over]") else "bold red")
            for one in self._watcher.messages[-LINES_OF_MESSAGES:]
        ]
        return Group(
            Text(f"\n{self._doing}", style="bold"),
            "",
            pools,
            "",
            self._prices(),
            "",
            Text("messages to people"),
            *messages,
        )

    def _prices(self) -> RenderableType:
        table = Table("type", "zone: in use of capacity, USD/h", box=None, padding=(0, 1))
        rows: defaultdict[str, list[str]] = defaultdict(list)
        for offering in self._watcher.view.market.get("offerings", []):
            if offering["instance_type"] in self._types:
                zone, used = offering["availability_zone"][-2:], f"{offering['in_use']} of {offering['capacity']}"
                price = f"{Decimal(offering['spot_price']).normalize():f}"
                rows[offering["instance_type"]].append(f"{zone}: {used}, {price}")
        for instance_type, cells in rows.items():
            table.add_row(instance_type, "   ".join(cells))
        return table


def _pool_cells(status: Item) -> list[str]:
    sizes = [str(status.get(name, "")) for name in ("wanted", "running", "starting", "noticed")]
    waiting = status.get("waiting")
    why = f"{waiting['reason']}: {waiting['message']}" if waiting else ""
    wrong = "; ".join(f"{one['field']} = {one['value']}: {one['rule']}" for one in status.get("spec_errors", []))
    return [*sizes, str(waiting["count"]) if waiting else "", wrong or why]
