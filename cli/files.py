"""Pool files: pool items in YAML or JSON, or the unchanged ``resource_pools:`` list of a Determined configuration.

The YAML nodes are kept, so that the message for each fault names its line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, ClassVar

import yaml

from lambdas.domain.item.determined import NETWORK, STRAIGHT, ElsewhereError, Found, find_pools, import_pool
from lambdas.domain.item.faults import SpecError, parse_pool
from lambdas.domain.item.pool import Pool

LONGEST_FILE = 1_000_000
MOST_VALUES = 100_000
DEEPEST = 40
LONGEST_NUMBER = 38
"""Digits that DynamoDB holds. A longer number stays a text; a pool accepts numeric texts."""

DECIMAL = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


MASTERS_OWN = {"resource_pools", "resource_manager", "additional_resource_managers", "provisioner"}
"""Keys of a Determined master configuration that no pool item has."""


class FileFaultError(ValueError):
    """The file holds no pools. The message says what to do."""


REQUIRED = "required: "
"""The rule of a missing attribute starts with this."""


def in_words(error: SpecError) -> str:
    """Say in one line what is wrong with an attribute, its rule and the remedy."""
    if error.rule.startswith(REQUIRED):
        return f"{error.field} is missing: it must be {error.rule.removeprefix(REQUIRED)}. {error.remedy}"
    return f"{error.field} = {error.value}: must be {error.rule}. {error.remedy}"


@dataclass(frozen=True)
class Fault:
    """One fault of a file: the line, the pool, what is wrong and how to fix it."""

    line: int
    pool: str
    message: str
    field: str = ""
    value: str = ""
    rule: str = ""
    remedy: str = ""

    @classmethod
    def of(cls, error: SpecError, *, line: int, pool: str) -> Fault:
        """Make a fault of the file from a fault of a pool item."""
        return cls(line, pool, in_words(error), error.field, error.value, error.rule, error.remedy)


@dataclass(frozen=True)
class Entry:
    """One pool of a file. An ``imported`` pool comes from Determined and has no target_size.

    ``absent`` lists what an imported pool leaves out, and what that means. ``broken`` says why the entry is not a pool
    item. ``skipped`` says why a valid file's entry is left out.
    """

    item: dict[str, Any]
    imported: bool = False
    not_applied: dict[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    broken: str = ""
    skipped: str = ""
    node: yaml.Node | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The pool's name for messages."""
        return str(self.item.get("pool_name", "(unnamed)"))

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults of this entry."""
        if self.skipped:
            return ()
        if self.broken:
            # A message of import_pool starts with the field.
            place = self.broken.partition(":")[0] if self.imported else ""
            return (Fault(self.line_of(place), self.name, self.broken),)
        return self.faults_of(self.item)

    def faults_of(self, item: Mapping[str, Any]) -> tuple[Fault, ...]:
        """Return all faults of an item made from this entry, each with the line that causes it."""
        parsed = parse_pool(item)
        if isinstance(parsed, Pool):
            return ()
        return tuple(Fault.of(error, line=self.line_of(error.field), pool=self.name) for error in parsed)

    def line_of(self, place: str) -> int:
        """Return the line of an attribute such as ``schedule.0.cron``, or of the pool if the file does not have it."""
        if self.imported:
            name, dot, rest = place.partition(".")
            place = PROVIDER_NAMES.get(name, name) + dot + rest
        return line_of(self.node, place)


PROVIDER_NAMES = {
    **{ours: f"provider.{theirs}" for theirs, ours in STRAIGHT.items()},
    **{ours: f"provider.network_interface.{theirs}" for theirs, ours in NETWORK.items()},
}
"""The place in a Determined pool that corresponds to each attribute of a pool item."""


def read_entries(text: str) -> list[Entry]:
    """Read all pools of a file, broken ones too. Raises FileFaultError if it is not YAML or JSON, or holds no pools."""
    content, node = _content(text)
    if isinstance(content, Mapping) and (found := find_pools(content)):
        return _told_apart(_from_determined(found, node))
    if isinstance(content, Mapping) and "pool_name" not in content and (of_master := MASTERS_OWN & content.keys()):
        raise FileFaultError(f"this is a Determined master configuration ({min(of_master)}) without resource_pools")
    if isinstance(content, Mapping) and "pools" in content:
        content, node = _alone(content), _below(node, "pools")
    if isinstance(content, Mapping):
        return [_own(content, node)]
    nodes = node.value if isinstance(node, yaml.SequenceNode) else []
    return _told_apart([_own(pool, place) for pool, place in zip(_listed(content), nodes, strict=True)])


def _from_determined(found: Iterable[Found], node: yaml.Node | None) -> list[Entry]:
    """Skip pools that are not on AWS. If no pool is on AWS, all are faults: the file is useless here."""
    entries = [_imported(one, _below(node, one.place)) for one in found]
    if all(entry.skipped for entry in entries):
        return [replace(entry, broken=entry.skipped, skipped="") for entry in entries]
    return entries


def _told_apart(entries: list[Entry]) -> list[Entry]:
    """Mark a second pool with the same name as broken; otherwise the last one would silently win."""
    first: dict[str, int] = {}
    apart: list[Entry] = []
    for entry in entries:
        named = "pool_name" in entry.item and not entry.skipped
        line = first.setdefault(entry.name, entry.line_of("")) if named else None
        twice = line is not None and any(other.name == entry.name for other in apart)
        why = f"there is more than one pool {entry.name[:80]}, the first in line {line}: keep one"
        apart.append(replace(entry, broken=why) if twice and not entry.broken else entry)
    return apart


def line_of(node: yaml.Node | None, place: str) -> int:
    """Return the line of a value, or of its nearest parent. Names may contain dots: the longest match counts."""
    if node is None:
        return 1
    line = int(node.start_mark.line) + 1
    while place:
        if isinstance(node, yaml.MappingNode):
            fitting = [
                pair
                for pair in node.value
                if isinstance(pair[0], yaml.ScalarNode) and f"{place}.".startswith(f"{pair[0].value}.")
            ]
            if not fitting:
                return line
            key, node = max(fitting, key=lambda pair: len(pair[0].value))
            line, place = int(key.start_mark.line) + 1, place[len(key.value) + 1 :]
            continue
        first, _, rest = place.partition(".")
        if not isinstance(node, yaml.SequenceNode) or not first.isdecimal() or int(first) >= len(node.value):
            return line
        node, place = node.value[int(first)], rest
        line = int(node.start_mark.line) + 1
    return line


def _below(node: yaml.Node | None, place: str) -> yaml.Node | None:
    """Return the node at a place such as ``pools`` or ``resource_pools.0``."""
    for step in place.split("."):
        if isinstance(node, yaml.SequenceNode):
            node = node.value[int(step)]
        else:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            node = next((value for key, value in pairs if key.value == step), None)
    return node


def _first_twice(names: Iterable[str]) -> str | None:
    return next((name for name, times in Counter(names).items() if times > 1), None)


def _content(text: str) -> tuple[object, yaml.Node | None]:
    if len(text) > LONGEST_FILE:
        raise FileFaultError(f"longer than {LONGEST_FILE} characters; a pool takes a few hundred")
    text = text.removeprefix("\ufeff")
    if text.lstrip().startswith(("{", "[")):
        text = text.replace("\t", " ")  # JSON is valid YAML except for tabs between values
    try:
        loader = _PlainLoader(text)
        node = loader.get_single_node()
        return (None if node is None else loader.construct_document(node)), node
    except RecursionError:
        raise FileFaultError("nested too deeply; a pool needs two levels") from None
    except (yaml.YAMLError, ValueError, LookupError) as error:
        raise FileFaultError(f"not valid YAML: {' '.join(str(error).split())[:500]}") from None


def _alone(content: Mapping[str, Any]) -> object:
    if beside := [str(name)[:80] for name in content if name != "pools"]:
        raise FileFaultError(f"{beside[0]} is outside the pools and has no effect; put it into a pool or remove it")
    return content["pools"]


def _own(item: Mapping[Any, Any], node: yaml.Node | None) -> Entry:
    odd = [str(name)[:80] for name in item if not isinstance(name, str)]
    broken = f"{odd[0]} is not an attribute name: names must be texts; put it in quotes" if odd else ""
    return Entry({str(name): value for name, value in item.items()}, broken=broken, node=node)


def _imported(found: Found, node: yaml.Node | None) -> Entry:
    pool = found.pool
    if not isinstance(pool, Mapping):
        raise FileFaultError(f"{found.place}: {str(pool)[:80]} is not a pool; write a map with pool_name and provider")
    named = {"pool_name": pool["pool_name"]} if "pool_name" in pool else {}
    if node is not None and found.bare:
        node = yaml.MappingNode("", [(yaml.ScalarNode("", "provider", node.start_mark), node)], node.start_mark)
    try:
        imported = import_pool(pool, found.manager)
    except ElsewhereError as elsewhere:
        return Entry(named, imported=True, skipped=str(elsewhere), node=node)
    except ValueError as error:
        return Entry(named, imported=True, broken=str(error), node=node)
    item, left_out, absent = imported.item, imported.not_applied, imported.absent
    return Entry(item, imported=True, not_applied=left_out, absent=absent, node=node)


def _listed(content: object) -> list[Mapping[str, Any]]:
    if not isinstance(content, list) or not content or not all(isinstance(one, Mapping) for one in content):
        raise FileFaultError("it must be a pool, or a list of pools, each with a pool_name; see examples/")
    return content


class _PlainLoader(yaml.SafeLoader):
    """Loads YAML with the types of JSON. Prices stay exact (no floats), and no key is lost."""

    yaml_constructors: ClassVar = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "seq", "map")
    }

    def get_single_node(self) -> yaml.Node | None:
        """Compose the file, and check its size before making values."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _extent(node, {})
        return node


def _extent(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Count a node's values and depth with aliases expanded. Raises MarkedYAMLError if there are too many."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = (MOST_VALUES, 0)  # an alias inside its own anchor never ends
    parts = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        if twice := _first_twice(name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)):
            raise yaml.MarkedYAMLError(problem=f"{twice[:80]} is defined twice", problem_mark=node.start_mark)
        parts = [part for pair in node.value for part in pair]
    below = [_extent(part, known) for part in parts]
    size, depth = 1 + sum(size for size, _ in below), 1 + max((depth for _, depth in below), default=0)
    if size > MOST_VALUES or depth > DEEPEST:
        raise yaml.MarkedYAMLError(problem="too many values or levels, aliases included", problem_mark=node.start_mark)
    known[id(node)] = size, depth
    return size, depth


def _text(loader: _PlainLoader, node: yaml.ScalarNode) -> str:
    # JSON escapes a character above U+FFFF as two surrogates; a single surrogate is not valid text.
    return str(loader.construct_scalar(node)).encode("utf-16", "surrogatepass").decode("utf-16")


def _whole(loader: _PlainLoader, node: yaml.ScalarNode) -> object:
    return loader.construct_yaml_int(node) if len(node.value) <= LONGEST_NUMBER else _text(loader, node)


def _decimal(loader: _PlainLoader, node: yaml.ScalarNode) -> object:
    """Return an exact number, or the text: .inf, .nan, times of day and too many digits are not numbers of a pool."""
    text = _text(loader, node).replace("_", "")
    return Decimal(text) if len(text) <= LONGEST_NUMBER and DECIMAL.fullmatch(text) else text


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_constructor("tag:yaml.org,2002:str", _text)
_PlainLoader.add_constructor("tag:yaml.org,2002:int", _whole)
_PlainLoader.add_constructor("tag:yaml.org,2002:float", _decimal)
