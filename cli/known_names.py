"""Names in a pool that the AWS SDK does not know. They are probably misspelt, or newer than the SDK.

The check makes no call to AWS. EC2 would only answer, again and again, that it has no capacity for such a type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache

from botocore.loaders import Loader

from lambdas.domain.item.pool import Pool

TYPES, GPUS = "InstanceType", "AcceleratorName"
"""The names of the lists in botocore's model of EC2."""

KINDS = {TYPES: "instance type", GPUS: "GPU"}


def unknown_names(pool: Pool) -> Iterator[str]:
    """Yield a sentence for each unknown name, with the nearest known one."""
    yield from _unknown("instance_types", pool.instance_types, TYPES)
    if pool.requirements:
        yield from _unknown("weights", pool.weights, TYPES)
        yield from _unknown("requirements.excluded_types", pool.requirements.excluded_types, TYPES)
        yield from _unknown("requirements.gpu_names", pool.requirements.gpu_names, GPUS)


@cache
def names(shape: str) -> frozenset[str]:
    """Return a list from the SDK's model of EC2; empty if the model (a later version) does not have it."""
    shapes = Loader().load_service_model("ec2", "service-2")["shapes"]
    return frozenset(shapes.get(shape, {}).get("enum", ()))


def _unknown(attribute: str, given: Iterable[str], shape: str) -> Iterator[str]:
    known = names(shape)
    for name in given:
        if known and not any(fnmatchcase(one, name) for one in known):
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {nearest[0]}?" if nearest else ""
            yield f"{attribute}: this version of the AWS SDK does not know the {KINDS[shape]} {name}.{hint}"
