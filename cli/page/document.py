"""The page as a document: served with its files beside it, or whole in one file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

STYLES, SCRIPTS = ("uPlot.min.css", "page.css"), ("uPlot.iife.min.js", "page.js")
KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}

SERVED_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The page runs nothing but its own files, and asks nobody but the command."""


@cache
def asset(name: str) -> str:
    """Return a file of the page."""
    return files("cli.page").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def served() -> str:
    """Return the document whose files are served beside it."""
    styles = "".join(f'<link rel="stylesheet" href="{name}">\n' for name in STYLES)
    scripts = "".join(f'<script src="{name}"></script>\n' for name in SCRIPTS)
    return _filled(styles, scripts)


def whole(saved: Mapping[str, Any]) -> str:
    """Return one document that has everything in it: styles, scripts, and the panels that ``saved`` has."""
    styles, scripts = [asset(name) for name in STYLES], [asset(name) for name in SCRIPTS]
    policy = (
        f"default-src 'none'; script-src {_hashes(scripts)}; style-src {_hashes(styles)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    head += "".join(f"<style>{text}</style>\n" for text in styles)
    # Nothing in the data may end the element that holds it.
    data = json.dumps(saved, ensure_ascii=True).replace("<", "\\u003c")
    body = f'<script type="application/json" id="saved">{data}</script>\n'
    return _filled(head, body + "".join(f"<script>{text}</script>\n" for text in scripts))


def _filled(styles: str, scripts: str) -> str:
    before, _, after = asset("page.html").partition("<!-- styles -->\n")
    middle, _, end = after.partition("<!-- scripts -->\n")
    return f"{before}{styles}{middle}{scripts}{end}"


def _hashes(texts: list[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
