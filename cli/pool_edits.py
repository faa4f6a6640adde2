"""Commands that change one pool item: it is written, or deleted, only if it is still as it was read."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.changes import CHANGED, UNCHANGED, Change, FaultyFileError, plan, read
from cli.exits import RefusedError
from cli.files import in_words
from cli.item_text import as_yaml, same
from cli.pool_items import PoolItems, Stored
from lambdas.aws.tables import to_attribute
from lambdas.domain.decision.stock import ALIVE, STILL
from lambdas.domain.item.faults import parse_pool
from lambdas.domain.item.pool import Pool
from lambdas.domain.item.schedule import Entry
from lambdas.ports import Fleet, StatusStore, UnreadableStatusError

HEAD = """# Pool {name}. Save to apply it, or quit without a change.
# What each attribute means: docs/pool-reference.md
"""

SHOWN = 10
"""Ids that an error lists."""

SIZES = ("target_size", "min_instances")


@dataclass(frozen=True)
class EditOutcome:
    """The result for a pool's item. ``change`` is changed or unchanged; ``advice`` is a hint for the user, or empty."""

    pool: str
    change: str
    message: str
    advice: str = ""


def edit(pools: PoolItems, pool_name: str, ask_again: Callable[[FaultyFileError], bool]) -> Change:
    """Open the item in an editor until it is valid. Raises RefusedError, which names the file with the user's text."""
    before = pools.get(pool_name)
    kept = Path(tempfile.mkdtemp(prefix="spotpools-"), f"{pool_name}.yaml")
    kept.write_text(HEAD.format(name=pool_name) + as_yaml(before.item), encoding="utf-8")
    while True:
        _open(kept)
        try:
            change = _edited(kept, pool_name, before)
        except FaultyFileError as faulty:
            if ask_again(faulty):
                continue
            raise
        if change.change != UNCHANGED:
            pools.write(change.item, before)
        kept.unlink()
        kept.parent.rmdir()
        return change


def _edited(kept: Path, pool_name: str, before: Stored) -> Change:
    entries = read(str(kept))
    if [entry.name for entry in entries] != [pool_name] or entries[0].imported:
        raise RefusedError(f"{kept}: edit only the pool {pool_name}; spotpools apply creates other pools.")
    (change,) = plan(str(kept), entries, {pool_name: before})
    return change


def _open(path: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        done = subprocess.run([*shlex.split(editor), str(path)], check=False)  # noqa: S603  the user's own editor
    except (OSError, ValueError) as error:
        raise RefusedError(f"The editor {editor} cannot be started ({error}): set EDITOR.") from None
    if done.returncode != 0:
        raise RefusedError(f"{editor} ended with status {done.returncode}; nothing was written. Your text: {path}")


def pause(pools: PoolItems, pool_name: str) -> EditOutcome:
    """Pause the pool: the control plane observes and reports it, but changes nothing."""
    return _set(pools, pool_name, {"paused": True}, "paused: it is observed and reported, but not changed")


def resume(pools: PoolItems, pool_name: str) -> EditOutcome:
    """End a pause."""
    return _set(pools, pool_name, {"paused": None}, "resumed: it returns to its size")


def scale(pools: PoolItems, pool_name: str, size: int) -> EditOutcome:
    """Set target_size. Raises RefusedError if the item would be invalid, or if a schedule sets the size."""
    before = pools.get(pool_name)
    _valid(before, pool_name)
    pool = parse_pool({**before.item, "target_size": size})
    if not isinstance(pool, Pool):
        raise RefusedError("; ".join(in_words(fault) for fault in pool))
    if pool.schedule:
        raise RefusedError(
            f"{pool_name} stays as it is: the schedule sets its size ({_entry(pool.schedule[0])}). "
            f"Change the schedule: spotpools edit {pool_name}"
        )
    advice = [f"min_instances keeps it at {pool.min_instances}."] if pool.min_instances > size else []
    advice += [f"The pool is paused. To change its size: spotpools resume {pool_name}"] if pool.paused else []
    changed = _write(pools, before, {"target_size": size})
    return EditOutcome(pool_name, changed, f"at target_size {size}", " ".join(advice))


def delete(pools: PoolItems, pool_name: str) -> Stored:
    """Delete the pool's item, and return it as it was."""
    before = pools.get(pool_name)
    pools.delete(pool_name, before)
    return before


def wait_until_gone(
    pools: PoolItems, statuses: StatusStore, fleet: Fleet, pool_name: str, *, every: float, say: Callable[[str], None]
) -> None:
    """Return when the control plane has forgotten the pool: its instances have ended.

    Raises RefusedError if that will not happen: the pool has an item again, or only protected instances are left.
    """
    last = ""
    while True:
        try:
            status = statuses.get(pool_name)
        except UnreadableStatusError as error:
            raise RefusedError(f"Cannot wait for {pool_name}: {error}") from None
        if status is None:
            return
        answer = status.answer
        text = f"{answer.running} running, {answer.starting} starting"
        if text != last:
            say(f"{pool_name}: {text}")
        elif pools.find(pool_name) is not None:
            raise RefusedError(f"{pool_name} has an item again, so its instances stay.")
        elif stays := _protected_only(fleet, pool_name):
            raise RefusedError(
                f"Only protected instances of {pool_name} are left, and they stay: {', '.join(stays[:SHOWN])}. Remove "
                "their tag spotpools:protect or their termination protection, or terminate them yourself."
            )
        last = text
        time.sleep(every)


def _protected_only(fleet: Fleet, pool_name: str) -> list[str]:
    """The pool's protected instances, if it has no others."""
    there = [one for one in fleet.instances(pool_name) if one.state in (*ALIVE, *STILL)]
    return [one.id for one in there] if all(one.protected for one in there) else []


def empty(pools: PoolItems, pool_name: str) -> EditOutcome:
    """Set the sizes to zero and keep the item. Raises RefusedError if a schedule would bring instances back."""
    before = pools.get(pool_name)
    pool = _valid(before, pool_name)
    back = [one for one in pool.schedule if one.target_size or one.min_instances]
    if back:
        raise RefusedError(
            f"The schedule of {pool_name} would bring instances back ({_entry(back[0])}), so the pool would not stay "
            f"empty. Remove the schedule (spotpools edit {pool_name}), or pause the pool: spotpools pause {pool_name}"
        )
    advice = f"The pool is paused. To have instances terminated: spotpools resume {pool_name}" if pool.paused else ""
    changed = _write(pools, before, {"target_size": 0, "min_instances": 0 if "min_instances" in before.item else None})
    message = "emptied: its instances are terminated, except protected ones; its item stays"
    return EditOutcome(pool_name, changed, message, advice)


def _valid(stored: Stored, pool_name: str) -> Pool:
    pool = parse_pool(stored.item)
    if isinstance(pool, Pool):
        return pool
    raise RefusedError(
        f"The item of {pool_name} is invalid, so the pool would keep its last valid item. "
        f"Correct it first: spotpools edit {pool_name}"
    )


def _entry(entry: Entry) -> str:
    return f"{entry.cron} ({entry.timezone}): target_size {entry.target_size}"


def _set(pools: PoolItems, pool_name: str, values: Mapping[str, Any], message: str) -> EditOutcome:
    return EditOutcome(pool_name, _write(pools, pools.get(pool_name), values), message)


def _write(pools: PoolItems, before: Stored, values: Mapping[str, Any]) -> str:
    """Change some attributes (None removes one) and leave the others as DynamoDB wrote them."""
    if all(same(before.item.get(name), value) for name, value in values.items()):
        return UNCHANGED
    given = {name: to_attribute(value) for name, value in values.items() if value is not None}
    kept = {name: value for name, value in before.attributes.items() if name not in values}
    pools.put({**kept, **given}, before.attributes)
    return CHANGED
