"""Every link, heading, file, make target and module in a document exists. External links are not opened."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
OUR_FOLDERS = ("acceptance", "cli", "docs", "examples", "infra", "lambdas", "localcloud", "tests")

FENCE = re.compile(r"^ *(```+)[^\n]*\n(.*?)^ *\1[ \t]*$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]:\s+(\S+)|(?:href|src)=\"([^\"]+)\"", re.MULTILINE)
SECURE = re.compile(r"https://[\w-]+(\.[\w-]+)+(/\S*)?")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
OUR_PATH = re.compile(rf"(?<![\w./-])((?:{'|'.join(OUR_FOLDERS)})/[\w./*-]*)")
TARGET = re.compile(r"^ *(?:\$ )?(?:[A-Z_]+=\S+ )*make ([a-z][a-z-]*)", re.MULTILINE)
MODULE = re.compile(r"python3? -m ([a-z_]+(?:\.[a-z_]+)*)")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def faults(text: str, folder: Path) -> list[str]:
    """What a document in this folder names and does not exist."""
    plain = FENCE.sub("", text)
    code = [*(block for _, block in FENCE.findall(text)), *SPAN.findall(plain)]
    return [*_dead_links(SPAN.sub("", plain), text, folder), *_not_there("\n".join(code))]


def _dead_links(prose: str, text: str, folder: Path) -> Iterator[str]:
    for link in ("".join(groups) for groups in LINK.findall(prose)):
        place, _, anchor = link.partition("#")
        target = folder / place
        if ":" in place:
            if not SECURE.fullmatch(place):
                yield f"{link}: not https"
        elif not target.exists():
            yield f"{link}: no such file"
        elif anchor and anchor not in headings(text if not place else target.read_text(encoding="utf-8")):
            yield f"{link}: no such heading"


def _not_there(code: str) -> Iterator[str]:
    for path in OUR_PATH.findall(code):
        if not any(ROOT.glob(path.rstrip("/.,"))):
            yield f"{path}: no such file"
    yield from (f"make {name}: no such target" for name in TARGET.findall(code) if name not in TARGETS)
    yield from (f"python -m {name}: no such module" for name in MODULE.findall(code) if not _runs(name))


def _runs(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    if path.relative_to(ROOT).parts[0] in OUR_FOLDERS:
        return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    return importlib.util.find_spec(module) is not None


def headings(text: str) -> set[str]:
    """GitHub's anchors of a document's headings. The second with the same name ends in -1."""
    seen: Counter[str] = Counter()
    anchors = set()
    for title in HEADING.findall(FENCE.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "]", title).lower()).replace(" ", "-")
        anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return anchors


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_that_a_document_names_exists(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8"), path.parent) == []


BROKEN = """# A page
## Twice
## Twice
[well](runbook.md#dead-letters) [well](#twice-1) [well](https://docs.aws.amazon.com/a) `make demo` `infra/*.py`
[gone](gone.md) [no heading](runbook.md#gone) [nor here](#twice-2) [plain](http://example.com) ![](gone.png)
<img src="gone.svg"> `lambdas/gone.py` `tests/gone/` `make gone` `python -m infra.gone` `python -m gone`

[ref]: gone-too.md

```console
$ AWS_REGION=eu-west-1 make vanish
spotpools apply examples/gone.yaml      # make believe
```
"""


def test_the_checker_finds_each_kind_of_fault_and_nothing_else() -> None:
    assert faults(BROKEN, ROOT / "docs") == [
        "gone.md: no such file",
        "runbook.md#gone: no such heading",
        "#twice-2: no such heading",
        "http://example.com: not https",
        "gone.png: no such file",
        "gone.svg: no such file",
        "gone-too.md: no such file",
        "examples/gone.yaml: no such file",
        "lambdas/gone.py: no such file",
        "tests/gone/: no such file",
        "make vanish: no such target",
        "make gone: no such target",
        "python -m infra.gone: no such module",
        "python -m gone: no such module",
    ]
