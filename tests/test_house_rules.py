"""The rules that keep the house in order, read off the syntax tree, so that they cannot decay in silence."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("lambdas", "infra", "cli", "localcloud", "acceptance")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
TEXTS = sorted(
    path
    for pattern in ("*.py", "*.toml", "*.md")
    for path in ROOT.glob(f"[!.]*/**/{pattern}")
    if "node_modules" not in path.parts
)

PLAIN_TEXTS = [
    *MODULES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("[!.]*.md")),
]

# Who may import what of ours: package or module -> prefixes. domain needs nothing but itself.
ALLOWED = {
    "lambdas.domain": (),
    "lambdas.domain.item": ("lambdas.domain.item",),
    "lambdas.domain.model": ("lambdas.domain.item", "lambdas.domain.model", "lambdas.domain.wording"),
    "lambdas.domain.decision": (
        "lambdas.domain.item",
        "lambdas.domain.model",
        "lambdas.domain.wording",
        "lambdas.domain.decision",
    ),
    "lambdas.domain.record": (
        "lambdas.domain.wording",
        "lambdas.domain.item",
        "lambdas.domain.model",
        "lambdas.domain.decision",
        "lambdas.domain.record",
    ),
    "lambdas.domain.guide": ("lambdas.domain.model",),
    "lambdas.domain.alarm": (
        "lambdas.domain.item",
        "lambdas.domain.model",
        "lambdas.domain.guide",
        "lambdas.domain.wording",
        "lambdas.domain.alarm",
    ),
    "lambdas.events": (),
    "lambdas.settings": (),
    "lambdas.metrics": (),
    "lambdas.telemetry": ("lambdas.metrics",),
    "lambdas.ports": ("lambdas.domain",),
    "lambdas.aws": ("lambdas.aws", "lambdas.domain", "lambdas.ports"),
    "lambdas.control_plane": ("lambdas.domain", "lambdas.ports"),
    "lambdas.act": ("lambdas.control_plane", "lambdas.domain", "lambdas.ports"),
    "lambdas.observe": ("lambdas.domain", "lambdas.ports"),
    "lambdas.report": ("lambdas.domain", "lambdas.metrics", "lambdas.ports", "lambdas.telemetry"),
    "lambdas.reconcile": (
        "lambdas.act",
        "lambdas.control_plane",
        "lambdas.domain",
        "lambdas.observe",
        "lambdas.ports",
        "lambdas.report",
    ),
    "lambdas.tick": ("lambdas.control_plane", "lambdas.domain", "lambdas.metrics", "lambdas.ports", "lambdas.report"),
    "lambdas.notices": (
        "lambdas.domain",
        "lambdas.events",
        "lambdas.metrics",
        "lambdas.ports",
        "lambdas.control_plane",
        "lambdas.telemetry",
    ),
    "lambdas.alarm_events": ("lambdas.domain", "lambdas.events", "lambdas.metrics"),
    "lambdas.alarms": ("lambdas.domain", "lambdas.ports", "lambdas.telemetry"),
    "lambdas.wiring": (
        "lambdas.alarms",
        "lambdas.aws",
        "lambdas.domain",
        "lambdas.control_plane",
        "lambdas.metrics",
        "lambdas.settings",
        "lambdas.telemetry",
    ),
    "lambdas.handlers": (
        "lambdas.alarm_events",
        "lambdas.alarms",
        "lambdas.control_plane",
        "lambdas.domain.alarm.message",
        "lambdas.events",
        "lambdas.notices",
        "lambdas.reconcile",
        "lambdas.telemetry",
        "lambdas.tick",
        "lambdas.wiring",
    ),
    "infra": (
        "infra",
        "lambdas.__version__",
        "lambdas.alarm_events",
        "lambdas.metrics",
        "lambdas.settings",
        "lambdas.domain.alarm.names",
        "lambdas.domain.guide",
        "lambdas.domain.model.instances",
    ),
    "cli": (
        "cli",
        "lambdas.__version__",
        "lambdas.aws",
        "lambdas.domain",
        "lambdas.metrics",
        "lambdas.observe",
        "lambdas.ports",
        "lambdas.settings",
    ),
    "localcloud": ("localcloud", "infra.stages"),
    "acceptance": (
        "acceptance",
        "cli",
        "infra.deploy",
        "lambdas.__version__",
        "lambdas.aws",
        "lambdas.domain.item.fields",
        "lambdas.domain.model.instances",
        "localcloud",
    ),
    "localcloud.market": ("localcloud.market",),
    "localcloud.market.model": ("localcloud.market.model",),
    "localcloud.market.api": ("localcloud.market.model", "localcloud.market.api"),
}
OURS = ("lambdas", "infra", "cli", "localcloud", "acceptance")
DOMAIN_MAY_IMPORT = {
    "__future__", "base64", "collections", "cronsim", "dataclasses", "datetime", "decimal", "difflib", "enum",
    "fnmatch", "functools", "hashlib", "itertools", "json", "lambdas", "pydantic", "re", "typing", "zlib", "zoneinfo",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today", "time"}

WORDS = re.compile(
    r"\b(be it|borrowed|dear(er|est)?|given back|graver|gravest|hindered|hindrances?|laid in the way|lent|"
    r"mend(s|ed|ing)?|reckon(s|ed|ing)?|somebody|stillborn|told|untold|victims?)\b",
    re.IGNORECASE,
)
"""Words that are not plain, or that another word has replaced: the glossary in CONTRIBUTING.md has ours."""

OLD_NAMES = ("lambdas/domain/model/status.py", "tests/contract/stored/", "tests/test_house_rules.py")
"""Where earlier versions' names are read, and this list."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            # "from lambdas import report" imports lambdas.report
            yield from ([f"{base}.{alias.name}" for alias in node.names] if base in OURS else [base])


def modules_of(path: Path) -> set[str]:
    """The modules that a file imports, or imports names from; packages stand for nothing but their own __init__."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found - {name_of(path).rpartition(".")[0]}


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def rule_for(module: str) -> tuple[str, ...] | None:
    fitting = [key for key in ALLOWED if within(module, (key,))]
    return ALLOWED[max(fitting, key=len)] if fitting else None


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    module = name_of(path)
    allowed = rule_for(module)
    if module == "lambdas":
        return
    assert allowed is not None, f"{module} is new: say in ALLOWED what it may import"
    wrong = [name for name in imports(path) if within(name, OURS) and not within(name, allowed)]
    assert not wrong, f"{module} must not import {wrong}"


def test_the_domain_is_five_rooms_the_guide_and_words() -> None:
    entries = {path.name for path in (ROOT / "lambdas" / "domain").iterdir() if path.name != "__pycache__"}
    assert entries == {"__init__.py", "item", "model", "decision", "record", "alarm", "guide.py", "wording.py"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = {name_of(path): path for path in MODULES}
    order = TopologicalSorter({name: modules_of(path) & known.keys() for name, path in known.items()})
    order.prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith("lambdas")], ids=name_of)
def test_only_the_adapters_know_boto3(path: Path) -> None:
    if not within(name_of(path), ("lambdas.aws",)):
        assert not [name for name in imports(path) if within(name, ("boto3", "botocore"))]


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith("lambdas.domain")], ids=name_of)
def test_the_domain_is_pure(path: Path) -> None:
    assert {name.split(".")[0] for name in imports(path)} <= DOMAIN_MAY_IMPORT
    calls = [node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    clocks = [one.attr for one in calls if isinstance(one, ast.Attribute) and one.attr in CLOCKS]
    assert not clocks, "time comes in as an argument"
    assert not [one.id for one in calls if isinstance(one, ast.Name) and one.id in ("open", "print", "input")]


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith("lambdas")], ids=name_of)
def test_only_settings_reads_the_environment(path: Path) -> None:
    reads = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert not reads or name_of(path) == "lambdas.settings"


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).startswith("lambdas")], ids=name_of)
def test_nothing_catches_everything_and_goes_on(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            assert not broad or isinstance(node.body[-1], ast.Raise), f"{name_of(path)}:{node.lineno} swallows"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


@pytest.mark.parametrize("path", [p for p in TEXTS if p.suffix == ".py"], ids=lambda p: str(p.relative_to(ROOT)))
def test_each_exception_from_a_rule_has_its_reason(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        found = re.search(r"#\s*(?:noqa|type: ignore)(?::\s?[A-Z0-9, ]+|\[[a-z-, ]+\])?(.*)", line)
        if found and "re.search" not in line:
            assert found.group(1).strip(), f"{path.name}:{number}: say why"


@pytest.mark.parametrize("path", PLAIN_TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_each_text_is_in_plain_words(path: Path) -> None:
    if str(path.relative_to(ROOT)).startswith(OLD_NAMES):
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [f"{number}: {line.strip()}" for number, line in enumerate(lines, 1) if WORDS.search(line)]


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_names_a_machine_or_a_registry(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    words = ["/" + "root/", "/" + "home/", "/" + "work/", "pypi" + ".org", "registry" + ".npmjs"]
    assert not [word for word in words if word in text]
