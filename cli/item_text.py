"""Pool items as text: YAML that reads back as the same item, and plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import yaml

from lambdas.domain.item.faults import KNOWN_NAMES


def as_yaml(item: Mapping[str, Any]) -> str:
    """Write an item as a file for ``apply``, with attributes in the order of the reference."""
    text: str = yaml.dump(ordered(item), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def ordered(item: Mapping[str, Any]) -> dict[str, Any]:
    """Sort an item's attributes as in the reference, unknown ones last."""
    place = {name: number for number, name in enumerate(("pool_name", "target_size", *KNOWN_NAMES))}
    first = {name: place.get(name, len(place)) for name in item}
    first |= {name: 1 for name in ("pool_name", "target_size") if name in item} | {"pool_name": 0}
    return {name: item[name] for name in sorted(item, key=lambda name: (first[name], name))}


def as_plain(value: Any) -> Any:
    """Turn a value of an item into JSON: whole numbers as numbers, other numbers as text."""
    match value:
        case Decimal():
            return int(value) if _is_whole(value) else str(value)
        case Mapping():
            return {str(name): as_plain(one) for name, one in value.items()}
        case list() | tuple():
            return [as_plain(one) for one in value]
        case set() | frozenset():
            return sorted((as_plain(one) for one in value), key=str)
        case bytes():
            return repr(value)
    return value


def same(first: object, second: object) -> bool:
    """Return whether two values are equal to DynamoDB: 3 and 3.0 are, true and 1 are not."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(same(*pair) for pair in zip(first, second, strict=True))
    return first == second


def shown(value: object) -> str:
    """Write a value on one line."""
    match as_plain(value):
        case str() as text:
            return text
        case bool() as truth:
            return str(truth).lower()
        case None:
            return "null"
        case list() as several:
            return f"[{', '.join(map(shown, several))}]"
        case dict() as pairs:
            return f"{{{', '.join(f'{name}: {shown(one)}' for name, one in pairs.items())}}}"
        case other:
            return str(other)


def _is_whole(number: Decimal) -> bool:
    return number.is_finite() and abs(number) < Decimal(10) ** 15 and number == number.to_integral_value()


class _Dumper(yaml.SafeDumper):
    """Writes exact numbers, multi-line texts as blocks, and no aliases."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _number(dumper: _Dumper, value: Decimal) -> yaml.Node:
    if _is_whole(value):
        return dumper.represent_int(int(value))
    # Some YAML readers do not read exponents as numbers. A pool accepts a numeric text.
    text = str(value)
    return dumper.represent_str(text) if "E" in text else dumper.represent_scalar("tag:yaml.org,2002:float", text)


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _set(dumper: _Dumper, value: set[Any]) -> yaml.Node:
    return dumper.represent_list(sorted(value, key=str))


_Dumper.add_representer(Decimal, _number)
_Dumper.add_representer(str, _text)
_Dumper.add_representer(set, _set)
