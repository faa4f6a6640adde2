"""Names in a pool that this version of the AWS SDK does not know: misspelt most likely, or newer than the SDK.

Nothing is asked of AWS. EC2 itself would only answer, again and again, that it has no capacity of such a type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache

from botocore.loaders import Loader

from lambdas.domain.item.pool import Pool

TYPES, GPUS = "InstanceType", "AcceleratorName"
"""What botocore's model of EC2 calls the lists."""

KINDS = {TYPES: "instance type", GPUS: "GPU"}


def unknown_names(pool: Pool) -> Iterator[str]:
    """A sentence for each name that nobody knows, with the nearest that somebody does."""
    yield from _unknown("instance_types", pool.instance_types, TYPES)
    if pool.requirements:
        yield from _unknown("weights", pool.weights, TYPES)
        yield from _unknown("requirements.excluded_types", pool.requirements.excluded_types, TYPES)
        yield from _unknown("requirements.gpu_names", pool.requirements.gpu_names, GPUS)


@cache
def names(shape: str) -> frozenset[str]:
    """A list of the SDK's model of EC2; empty if it has none, which a later model may not have."""
    shapes = Loader().load_service_model("ec2", "service-2")["shapes"]
    return frozenset(shapes.get(shape, {}).get("enum", ()))


def _unknown(attribute: str, given: Iterable[str], shape: str) -> Iterator[str]:
    known = names(shape)
    for name in given:
        if known and not any(fnmatchcase(one, name) for one in known):
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            yield f"{attribute}: this version of the AWS SDK knows no {KINDS[shape]} {name}.{hint}"
