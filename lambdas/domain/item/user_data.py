"""Checks user data: what cloud-init runs, what it ignores, and what is base64 already.

User data may hold secrets, so the control plane keeps no copy. For an item that it remembers it keeps only a digest,
which names the launch template's version.
"""

from __future__ import annotations

import base64
import re

from lambdas.domain.item.fields import BrokenRuleError

HEADS = (
    "#!",
    "#cloud-",  # #cloud-config, #cloud-config-archive, #cloud-boothook
    "#include",
    "#part-handler",
    "#upstart-job",
    "## template: jinja",
    "content-type:",
    "mime-version:",
    "from nobody ",  # a MIME message as Python writes it
    "<script>",
    "<powershell>",
)
"""The beginnings of what cloud-init runs, in lower case; the last two are for machines with Windows."""

OTHER_HEADS = ("[", "{")
"""TOML and JSON, which images without cloud-init read: Bottlerocket, Flatcar, Fedora CoreOS."""

GZIP = b"\x1f\x8b"

REMEMBERED = {"remembered": True}
"""Context for reading an item that the control plane has remembered."""

_KEPT = re.compile(r"^digest:([0-9a-f]{12})$")


def kept(machine_digest: str) -> str:
    """What replaces user data in a remembered item: the digest of its machine."""
    return f"digest:{machine_digest}"


def digest_of(text: str | None) -> str | None:
    """The machine's digest, if the text is only the replacement for user data."""
    found = _KEPT.match(text or "")
    return found and found[1]


def check(text: str) -> None:
    """Raise BrokenRuleError for user data that is base64 already: encoded again, it would never run."""
    if digest_of(text):
        raise BrokenRuleError(
            "another text: this is the digest that replaces user data in an item that the control plane remembers",
            "Write the user data itself.",
        )
    decoded = _decoded(text)
    if decoded is not None and (decoded.startswith(GZIP) or _runs(decoded.decode("utf-8", "replace"))):
        raise BrokenRuleError(
            "plain text: this is base64, which would be encoded once more and never run",
            "Write it as plain text, as it is before `base64`; if that is too long, fetch the rest from S3.",
        )


def warning(text: str) -> str | None:
    """A warning about user data that is accepted, in one sentence; None if there is none."""
    if text[:1].isspace() and text.lstrip().startswith("#!"):
        return "user_data has white space before #!, so the script will not run: remove the white space."
    if digest_of(text) or _runs(text) or text.lstrip().startswith(OTHER_HEADS):
        return None
    if _decoded(text) is not None:
        return "user_data looks like base64, which is encoded once more: write it as plain text."
    return (
        "user_data begins neither with #! nor with #cloud-config (or another head that cloud-init knows), so it will "
        "not run, unless the image reads user data in a way of its own."
    )


def _runs(text: str) -> bool:
    return text.lstrip().lower().startswith(HEADS)


def _decoded(text: str) -> bytes | None:
    """The decoded text, if it is only base64, with or without line breaks and padding."""
    packed = "".join(text.split()).rstrip("=")
    try:
        decoded = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except ValueError:
        return None
    return decoded or None
