"""Pool items from YAML or JSON files: our own, or a Determined ``resource_pools:`` list as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import yaml

from lambdas.domain.determined import import_pool
from lambdas.domain.pool import Pool, SpecError, parse_pool


class FileFaultError(ValueError):
    """A file that holds no pools, with what to do about it."""


@dataclass(frozen=True)
class Entry:
    """One pool of a file. ``imported`` ones state no target_size of their own."""

    item: dict[str, Any]
    imported: bool = False
    not_applied: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(self.item.get("pool_name", "(unnamed)"))

    @property
    def faults(self) -> tuple[SpecError, ...]:
        """Everything wrong with it."""
        parsed = parse_pool(self.item)
        return () if isinstance(parsed, Pool) else parsed


def read_entries(text: str) -> list[Entry]:
    """Read the pools of a file. Raises FileFaultError if it is not YAML or holds none."""
    try:
        content = yaml.load(text, Loader=_ExactLoader)  # noqa: S506  a SafeLoader that keeps decimals exact
    except yaml.YAMLError as error:
        raise FileFaultError(f"not valid YAML: {' '.join(str(error).split())}") from None
    if isinstance(content, Mapping) and "resource_pools" in content:
        return [_imported(pool) for pool in _listed(content["resource_pools"], "resource_pools")]
    if isinstance(content, Mapping) and "pools" in content:
        content = content["pools"]
    items = [content] if isinstance(content, Mapping) else _listed(content, "the file")
    return [Entry(dict(item)) for item in items]


def _imported(pool: Mapping[str, Any]) -> Entry:
    try:
        imported = import_pool(pool)
    except ValueError as error:
        raise FileFaultError(str(error)) from None
    return Entry(imported.item, imported=True, not_applied=imported.not_applied)


def _listed(content: object, where: str) -> list[Mapping[str, Any]]:
    if not isinstance(content, list) or not content or not all(isinstance(one, Mapping) for one in content):
        raise FileFaultError(f"{where} must be a list of pools, each with a pool_name; see examples/")
    return content


class _ExactLoader(yaml.SafeLoader):
    """YAML whose decimal numbers stay as written: a price must not pass through a float."""


def _decimal(loader: _ExactLoader, node: yaml.ScalarNode) -> object:
    text = str(loader.construct_scalar(node)).replace("_", "")
    return Decimal(text) if text.replace(".", "", 1).lstrip("+-").isdigit() else loader.construct_yaml_float(node)


_ExactLoader.add_constructor("tag:yaml.org,2002:float", _decimal)
