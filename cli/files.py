"""Pool items from YAML or JSON files: our own, or a Determined ``resource_pools:`` list as it stands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar

import yaml

from lambdas.domain.determined import import_pool
from lambdas.domain.pool import Pool, SpecError, parse_pool

LONGEST_FILE = 1_000_000
MOST_VALUES = 100_000
DEEPEST = 40
LONGEST_NUMBER = 38
"""DynamoDB's digits. A longer number goes on as the text it was written as, which is a number to a pool as well."""

DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


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
    """Read the pools of a file. Raises FileFaultError if it is not YAML or JSON, or holds none, or one twice."""
    content = _content(text)
    if isinstance(content, Mapping) and "resource_pools" in content:
        entries = [_imported(pool) for pool in _listed(content["resource_pools"], "resource_pools")]
    else:
        if isinstance(content, Mapping) and "pools" in content:
            content = _alone(content)
        items = [content] if isinstance(content, Mapping) else _listed(content, "the file")
        entries = [Entry(_named(item)) for item in items]
    if twice := _first_twice(entry.name for entry in entries if "pool_name" in entry.item):
        raise FileFaultError(f"it has more than one pool {twice[:80]}: keep one, or the last would win unseen")
    return entries


def _first_twice(names: Iterable[str]) -> str | None:
    return next((name for name, times in Counter(names).items() if times > 1), None)


def _content(text: str) -> object:
    if len(text) > LONGEST_FILE:
        raise FileFaultError(f"longer than {LONGEST_FILE} characters; a pool takes a few hundred")
    text = text.removeprefix("\ufeff")
    if text.lstrip().startswith(("{", "[")):
        text = text.replace("\t", " ")  # JSON is YAML but for the tabs between its values
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506  a SafeLoader, and less
    except RecursionError:
        raise FileFaultError("nested too deeply; a pool needs two levels") from None
    except (yaml.YAMLError, ValueError, LookupError) as error:
        raise FileFaultError(f"not valid YAML: {' '.join(str(error).split())[:500]}") from None


def _alone(content: Mapping[str, Any]) -> object:
    if beside := [str(name)[:80] for name in content if name != "pools"]:
        raise FileFaultError(f"beside pools it has {beside[0]}, which nothing reads; put it into a pool or remove it")
    return content["pools"]


def _named(item: Mapping[Any, Any]) -> dict[str, Any]:
    for name in item:
        if not isinstance(name, str):
            raise FileFaultError(f"{str(name)[:80]} is no attribute name, which is a text; put it in quotes")
    return dict(item)


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


class _PlainLoader(yaml.SafeLoader):
    """YAML of JSON's types, each value as it was written: a price must not pass through a float, no key be lost."""

    yaml_constructors: ClassVar = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "seq", "map")
    }

    def get_single_node(self) -> yaml.Node | None:
        """Compose the file, and look at its extent before any value is made of it."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _extent(node, {})
        return node


def _extent(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node stands for with its aliases written out, and how deep they go. Raises if too many."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = (MOST_VALUES, 0)  # an alias within what it stands for has no end
    parts = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        if twice := _first_twice(name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)):
            raise yaml.MarkedYAMLError(problem=f"{twice[:80]} stands there twice", problem_mark=node.start_mark)
        parts = [part for pair in node.value for part in pair]
    below = [_extent(part, known) for part in parts]
    size, depth = 1 + sum(size for size, _ in below), 1 + max((depth for _, depth in below), default=0)
    if size > MOST_VALUES or depth > DEEPEST:
        raise yaml.MarkedYAMLError(problem="too many or too deep values, aliases counted", problem_mark=node.start_mark)
    known[id(node)] = size, depth
    return size, depth


def _text(loader: _PlainLoader, node: yaml.ScalarNode) -> str:
    # JSON writes what lies beyond the basic plane as two halves; a half alone is no text.
    return str(loader.construct_scalar(node)).encode("utf-16", "surrogatepass").decode("utf-16")


def _whole(loader: _PlainLoader, node: yaml.ScalarNode) -> object:
    return loader.construct_yaml_int(node) if len(node.value) <= LONGEST_NUMBER else _text(loader, node)


def _decimal(loader: _PlainLoader, node: yaml.ScalarNode) -> object:
    """Exact, or as text: .inf, .nan, times of day and endless digits are no number of a pool."""
    text = _text(loader, node).replace("_", "")
    return Decimal(text) if len(text) <= LONGEST_NUMBER and DECIMAL.fullmatch(text) else text


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_constructor("tag:yaml.org,2002:str", _text)
_PlainLoader.add_constructor("tag:yaml.org,2002:int", _whole)
_PlainLoader.add_constructor("tag:yaml.org,2002:float", _decimal)
