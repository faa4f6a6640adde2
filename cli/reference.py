"""``python -m cli.reference``: writes the reference of a pool item and its JSON Schema from the model into docs/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from lambdas.domain.machine import Machine
from lambdas.domain.pool import Pool

DOCS = Path(__file__).parents[1] / "docs"
HEAD = """# A pool item

Made from the model in `lambdas/domain/pool.py` by `python -m cli.reference`; [pool.schema.json](pool.schema.json) is
the same as a JSON Schema. Numbers may be DynamoDB numbers or numeric texts; booleans are booleans. Every fault of an
item is reported at once, unknown attributes are refused with the nearest known name. wanted = target_size, but at
least min_instances.

| attribute | rule | default | meaning |
| --- | --- | --- | --- |
"""


def reference() -> str:
    """The reference as Markdown."""
    own = [name for name in Pool.model_fields if name not in Machine.model_fields]
    order = ("pool_name", "target_size", *(name for name in own if name not in ("pool_name", "target_size")))
    order = (*order, *Machine.model_fields)
    rows = (_row(name, Pool.model_fields[name]) for name in order)
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def schema() -> dict[str, Any]:
    """The model as a JSON Schema, with the short spelling of a single instance type."""
    made = Pool.model_json_schema(mode="validation")
    made["properties"]["instance_type"] = {"type": "string", "description": "Short for instance_types with one entry."}
    made["required"] = ["pool_name"]
    kinds = ("instance_types", "instance_type", "requirements")
    made["oneOf"] = [{"required": [kind]} for kind in kinds]
    return made


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    extra = field.json_schema_extra
    rule = str(extra["rule"]) if isinstance(extra, dict) else ""
    shown = f"`{name}` (or `instance_type`)" if name == "instance_types" else f"`{name}`"
    required = field.is_required() or name == "instance_types"
    default = "required" if required else _default(field.default)
    return shown, rule, default, (field.description or "").replace("|", "\\|")


def _default(value: object) -> str:
    if value is None or value in ((), {}):
        return "none"
    return f"`{json.dumps(value)}`"


def main() -> None:
    """Write both files."""
    (DOCS / "pool-reference.md").write_text(reference(), encoding="utf-8")
    (DOCS / "pool.schema.json").write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
