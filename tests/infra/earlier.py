"""``python -m tests.infra.earlier``: keeps what an upgrade must not change, of the version that is being released.

CloudFormation replaces a resource if a property changes that is set only at creation, and what is in it is lost. If a
resource's logical id changes but its name does not, the deployment fails, because the name is taken.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped]  # cfn-lint ships no types

from infra.synthesis import template
from lambdas import __version__
from lambdas.domain.item.pool import Pool

FOLDER = Path(__file__).with_name("earlier")


def essence(made: Mapping[str, Any]) -> dict[str, Any]:
    """The resources of a template with their types, whether they are kept, and what is set only at creation."""
    return {
        "resources": {name: _resource(one) for name, one in made["Resources"].items()},
        "outputs": sorted(made.get("Outputs", {})),
        "attributes": sorted((*Pool.model_fields, "instance_type")),
    }


def _resource(one: Mapping[str, Any]) -> dict[str, Any]:
    properties = one.get("Properties", {})
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", one["Type"]).schema
    rules = ("createOnlyProperties", "conditionalCreateOnlyProperties")
    paths = [path for rule in rules for path in schema.get(rule, ())]
    parts = (path.removeprefix("/properties/").split("/")[0] for path in paths)
    fixed = {part: properties[part] for part in sorted(set(parts)) if part in properties}
    return {"type": one["Type"], "kept": one.get("DeletionPolicy") == "Retain", "fixed": fixed}


def main() -> None:
    """Write the file of this version."""
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(essence(template()), indent=1, sort_keys=True)
    (FOLDER / f"{__version__}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
