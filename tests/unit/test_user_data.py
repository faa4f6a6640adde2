"""User data: base64 is refused, a script that will not run gets a warning, and the rest is accepted."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from lambdas.domain.item.faults import SpecError, parse_pool, recalled
from lambdas.domain.item.pool import Pool, warnings_of
from lambdas.domain.item.user_data import kept

SCRIPT = "#!/bin/sh\necho grüß dich\n"
RUNS = [
    SCRIPT,
    "#cloud-config\nruncmd: [date]\n",
    "#cloud-boothook\ndate\n",
    "#include\nhttps://example.com/init\n",
    "## template: jinja\n#cloud-config\nruncmd: [date]\n",
    "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n",
    'Content-Type: multipart/mixed; boundary="b"\n\n--b\n',
    "\n#cloud-config\nruncmd: [date]\n",
]


def parsed(text: str, **attributes: Any) -> Pool | tuple[SpecError, ...]:
    return parse_pool({"pool_name": "p", "instance_types": ["g5.xlarge"], "user_data": text, **attributes})


def accepted(text: str, **attributes: Any) -> Pool:
    found = parsed(text, **attributes)
    assert isinstance(found, Pool), found
    return found


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def wrapped(text: str) -> str:
    return base64.encodebytes(text.encode() * 9).decode()


@pytest.mark.parametrize(
    "text",
    [
        *(encoded(text) for text in RUNS),
        encoded(SCRIPT).rstrip("="),
        wrapped(SCRIPT),
        f"  {encoded(SCRIPT)}\n",
        encoded(gzip.compress(SCRIPT.encode())),
    ],
)
def test_base64_is_refused_with_a_remedy(text: str) -> None:
    found = parsed(text)
    assert not isinstance(found, Pool)
    (fault,) = found
    assert fault.field == "user_data"
    assert "base64" in fault.rule
    assert "plain text" in fault.remedy


@pytest.mark.parametrize("text", [*RUNS, '[settings.motd]\nx = "y"\n', '{"ignition": {"version": "3.4.0"}}'])
def test_user_data_that_run_are_accepted_without_a_warning(text: str) -> None:
    assert warnings_of(accepted(text)) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo hello\n", "neither with #! nor with #cloud-config"),
        ("apt-get update", "will not run"),
        (" #!/bin/sh\ndate\n", "white space before #!"),
        ("\n#!/bin/sh\ndate\n", "white space before #!"),
        (encoded("hello world"), "looks like base64"),
        ("", "will not run"),
    ],
)
def test_user_data_that_will_not_run_are_accepted_with_a_warning(text: str, words: str) -> None:
    (warning,) = warnings_of(accepted(text))
    assert warning.startswith("user_data")
    assert words in warning


def test_the_stored_digest_is_not_accepted_as_user_data() -> None:
    found = parsed(kept("0123456789ab"))
    assert not isinstance(found, Pool)
    (fault,) = found
    assert "Write the user data itself." in fault.remedy


@pytest.mark.parametrize("name", ["user_data", "userdata"])
@pytest.mark.parametrize("text", [encoded("#!/bin/sh\nexport TOKEN=hunter2\n" * 9), "hunter2" * 5000])
def test_no_fault_quotes_user_data(name: str, text: str) -> None:
    faults = parse_pool({"pool_name": "p", "instance_type": "c5.large", name: text})
    assert isinstance(faults, tuple)
    assert f"({len(text)} characters)" in {one.value for one in faults}
    assert not any(text[:20] in one.model_dump_json() for one in faults)


def test_a_remembered_item_has_the_digest_of_the_item_itself() -> None:
    pool = accepted("#!/bin/sh\nexport TOKEN=hunter2\n")
    again = recalled(pool.remembered)
    assert "hunter2" not in json.dumps(pool.remembered)
    assert again is not None
    assert again.machine_digest == pool.machine_digest
    assert again.machine.user_data == kept(pool.machine_digest)
    assert again.remembered == pool.remembered
    assert warnings_of(again) == ()


def test_an_item_that_an_earlier_version_stored_is_read() -> None:
    pool = accepted("#!/bin/sh\ndate\n")
    again = recalled(pool.model_dump(mode="json", exclude_defaults=True))
    assert again == pool


def test_settings_without_effect_and_quotas_are_warned_of() -> None:
    pool = accepted(SCRIPT, root_volume_type="gp2", security_group_ids=[f"sg-{number}" for number in range(6)])
    volume, groups = warnings_of(pool)
    assert volume == "root_volume_type has no effect without root_volume_size_gib."
    assert "security_group_ids names 6 groups" in groups
