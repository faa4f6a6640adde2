"""``page``: what it answers, to whom, and how seldom it asks AWS."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cli import listing
from cli.answers import Answers, keep_none
from cli.deployment import Deployment
from cli.page import document, sizes
from cli.page.panels import KEPT, Panels
from cli.page.server import PageServer
from lambdas.aws import clients
from lambdas.domain.model.status import Notice
from lambdas.metrics import namespace
from lambdas.wiring import utc_now
from localcloud.market.model.settings import Fault
from tests.cli.site import Site

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def panels(site: Site) -> Panels:
    assert site.environment
    return Panels(Deployment())


class NoAws(Panels):
    """Panels that answer without AWS."""

    def fleet(self) -> Any:
        return {"pools": []}


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer(NoAws(Deployment())) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def asked(server: PageServer, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    """Ask the server, under its own name unless another one is given."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)  # type: ignore[arg-type]  # it is IPv4
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return connection.getresponse()


def data(panels: Panels, panel: str, pool: str | None = None) -> Any:
    """A panel's data. It must have no fault."""
    answer = panels.answer(panel, pool)
    assert answer is not None
    assert answer["fault"] == ""
    return answer["data"]


# Who may ask, and for what


def test_only_a_loopback_name_may_be_asked_for_so_that_no_other_site_can_point_its_name_here(
    server: PageServer,
) -> None:
    port = server.server_address[1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        assert asked(server, "/", Host=host).status == 200, host
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1.evil.example:{port}", ""):
        for path in ("/", "/page.js", "/api/fleet"):
            assert asked(server, path, Host=host).status == 421, host


def test_the_server_listens_on_this_machine_only(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_nothing_but_reading_is_answered(server: PageServer, method: str) -> None:
    answer = asked(server, "/api/fleet", method)
    assert (answer.status, answer.getheader("Allow")) == (405, "GET, HEAD")


def test_head_answers_like_get_without_the_content(server: PageServer) -> None:
    whole, head = asked(server, "/page.css"), asked(server, "/page.css", "HEAD")
    assert head.getheader("Content-Length") == whole.getheader("Content-Length") == str(len(whole.read()))
    assert (head.status, head.read()) == (200, b"")


def test_a_request_that_another_site_makes_gets_no_data(server: PageServer) -> None:
    for site in ("cross-site", "same-site"):
        assert asked(server, "/api/fleet", Sec_Fetch_Site=site).status == 403
        assert asked(server, "/", Sec_Fetch_Site=site).status == 200, "a link may lead here"
    assert asked(server, "/api/fleet", Sec_Fetch_Site="same-origin").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/no",
        "/api/pool",
        "/api/fleet?pool=a",
        "/../pyproject.toml",
        "/page.html",
        "/%2e%2e/x",
    ],
)
def test_nothing_else_is_served(server: PageServer, path: str) -> None:
    assert asked(server, path).status == 404


def test_the_page_may_run_only_its_own_files_and_ask_only_the_command(server: PageServer) -> None:
    for path in ("/", "/page.js", "/api/fleet", "/no"):
        answer = asked(server, path)
        policy = str(answer.getheader("Content-Security-Policy"))
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.getheader("Cache-Control") == "no-store"
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Access-Control-Allow-Origin") is None


def test_the_files_of_the_page_name_no_other_address() -> None:
    ours = "".join(document.asset(name) for name in ("page.html", "page.css", "page.js", *document.STYLES))
    known = ("http://www.w3.org/2000/svg",)  # the name of a namespace, which nobody asks for
    assert set(re.findall(r"https?://[^\s'\"`]+", ours)) <= set(known)


def test_the_chart_library_is_the_pinned_one_with_its_licence() -> None:
    package, assets = ROOT / "node_modules" / "uplot", ROOT / "cli" / "page" / "assets"
    pairs = {"dist/uPlot.iife.min.js": "uPlot.iife.min.js", "dist/uPlot.min.css": "uPlot.min.css"}
    pairs["LICENSE"] = "uPlot.LICENSE"
    for source, ours in pairs.items():
        assert (assets / ours).read_bytes() == (package / source).read_bytes(), f"copy {source} of the pinned uplot"


def test_a_browser_that_goes_away_is_no_fault(server: PageServer, capfd: pytest.CaptureFixture[str]) -> None:
    closes_hard = struct.pack("ii", 1, 0)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.server_address[1])) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, closes_hard)
            client.sendall(f"GET /uPlot.iife.min.js HTTP/1.1\r\nHost: {server.url[7:-1]}\r\n\r\n".encode() * 500)
    assert asked(server, "/").status == 200
    assert capfd.readouterr().err == ""


# What it says


def test_the_list_has_the_words_of_the_list_command(site: Site, panels: Panels) -> None:
    site.market.set_offering("g5.xlarge", "us-east-1a", spot_price=Decimal("0.4"))
    site.put("a", target_size=2, spot_max_price="0.45")
    site.put("b", target_size=1, spot_max_price="0.01")
    site.put("d", targt_size=1)
    fleet = data(panels, "fleet")
    assert [line["pool"] for line in fleet["pools"]] == ["b", "d", "a"], "those in trouble come first"
    lines = {line["pool"]: line for line in fleet["pools"]}
    assert lines["a"]["price"] == "0.4000 / 0.45"
    assert lines["b"]["why"].startswith("PRICE_ABOVE_MAX for")
    assert (lines["d"]["why"], lines["d"]["style"]) == ("item invalid: targt_size", "red")
    assert fleet["troubled"] == 2
    shown = " ".join(site.run("list").stdout.split())
    for line in fleet["pools"]:
        assert line["price"] in shown
        assert re.sub(r"\d+ (s|min)", "", line["why"]) in re.sub(r"\d+ (s|min)", "", shown)


def test_a_pools_page_has_each_text_of_explain_and_of_history(site: Site, panels: Panels) -> None:
    site.put("a", target_size=2, spot_max_price="0.01")
    line = {"message": "reconciled", "pool": "a", "wanted": 2, "running": 0, "steps": [], "failures": ["QUOTA: Max."]}
    site.log("PoolDueFunction", line)
    page = data(panels, "pool", "a")
    printed = " ".join(site.run("explain", "a").stdout.split())
    texts = [words["text"] for words in page["story"]]
    assert any(text.startswith("You can: Raise spot_max_price") for text in texts)
    ages = re.compile(r"\d+ (s|min|h)")
    missing = [
        text for text in texts if " ".join(ages.sub("", text).split()) not in " ".join(ages.sub("", printed).split())
    ]
    assert not missing
    assert "spot_max_price: '0.01'" in page["item"]
    (decided,) = data(panels, "decisions", "a")["decisions"]
    assert (decided["sizes"], [one["text"] for one in decided["texts"]]) == ("0/2", ["QUOTA: Max."])


def test_an_edit_is_explained_at_once_although_an_explanation_is_kept(site: Site, panels: Panels) -> None:
    panels.keep = Answers(panels.deployment.now, {"explanation": timedelta(hours=1)})
    site.put("a", target_size=0)
    assert "by target_size 0" in json.dumps(data(panels, "pool", "a"))
    site.put("a", target_size=2)
    assert "by target_size 2" in json.dumps(data(panels, "pool", "a"))
    site.market.calls.clear()
    data(panels, "pool", "a")
    assert "DescribeInstanceStatus" not in site.market.calls, "nothing has changed since"


def test_instances_and_ec2s_notices_of_them_are_listed(site: Site, panels: Panels) -> None:
    site.put("a", target_size=1)
    site.put("a", target_size=1)
    (instance,) = data(panels, "pool", "a")["instances"]
    assert (instance["type"], instance["market"], instance["notes"]) == ("g5.xlarge", "spot", "")
    offering = f"g5.xlarge/{instance['zone']}"
    site.plane.statuses.note("a", instance["id"], Notice(at=utc_now(), offering=offering))
    panels.keep = keep_none
    page = data(panels, "pool", "a")
    assert page["instances"][0]["notes"] == "interruption notice: EC2 reclaims it"
    (notice,) = page["notices"]
    assert (notice["instance"], notice["what"], notice["offering"]) == (instance["id"], "interruption", offering)


def test_an_unknown_pool_is_said_with_the_nearest_name(site: Site, panels: Panels) -> None:
    site.put("training", target_size=0)
    for panel in ("pool", "prices", "decisions"):
        answer = panels.answer(panel, "trainng")
        assert answer is not None
        assert answer["data"] is None
        assert "Did you mean training?" in answer["fault"], panel


def test_sizes_over_time_come_from_the_metrics(site: Site, panels: Panels) -> None:
    site.put("a", target_size=2)
    site.put("b", target_size=1)
    publish(site, "a", wanted=[2, 2], running=[0, 2])
    found = data(panels, "sizes")
    assert list(found["pools"]) == ["a"]
    assert [size for size in found["pools"]["a"]["running"] if size is not None] == [0, 2]
    assert len(found["times"]) == len(found["pools"]["a"]["wanted"]) == 6 * 12
    assert found["note"] == ""


def test_a_period_shows_its_worst_minute(site: Site, panels: Panels) -> None:
    site.put("a", target_size=2)
    publish(site, "a", wanted=[2, 3], running=[3, 1], apart=timedelta(0))
    found = data(panels, "pool-sizes", "a")["pools"]["a"]
    assert [[size for size in found[name] if size is not None] for name in ("wanted", "running")] == [[3], [1]]


def test_without_metrics_the_page_says_so(site: Site, panels: Panels) -> None:
    site.put("a", target_size=1)
    assert data(panels, "sizes")["note"] == "CloudWatch has no sizes of the last 6 h yet."


def publish(
    site: Site, pool: str, wanted: list[int], running: list[int], apart: timedelta = timedelta(minutes=10)
) -> None:
    """Publish sizes as the tick does, the last one ten minutes ago."""
    last = utc_now() - timedelta(minutes=10)
    points = [
        {
            "MetricName": name,
            "Dimensions": [{"Name": "Pool", "Value": pool}],
            "Timestamp": last - apart * (len(some) - 1 - number),
            "Value": size,
        }
        for name, some in (("Wanted", wanted), ("Running", running))
        for number, size in enumerate(some)
    ]
    site.client("cloudwatch").put_metric_data(Namespace=namespace(site.settings.stack), MetricData=points)


def test_a_name_that_cloudwatch_would_refuse_is_not_asked_for() -> None:
    asked_for: list[str] = []

    class CloudWatch:
        def get_metric_data(self, **asked: Any) -> dict[str, Any]:
            asked_for.extend(
                one["MetricStat"]["Metric"]["Dimensions"][0]["Value"] for one in asked["MetricDataQueries"]
            )
            return {"MetricDataResults": []}

    sizes.look(CloudWatch(), "s", ["good", "schön", "", " ", "a\n", "x" * 2000], now=utc_now(), span=timedelta(hours=1))
    assert set(asked_for) == {"good"}


def test_prices_are_beside_the_cap(site: Site, panels: Panels) -> None:
    site.market.set_offering("g5.xlarge", "us-east-1a", spot_price=Decimal("0.40"))
    site.put("a", target_size=1, spot_max_price="0.45")
    found = data(panels, "prices", "a")
    assert found["cap"] == "0.45"
    row = found["offerings"][0]
    assert (row["offering"], Decimal(row["now"]), row["cap"]) == ("g5.xlarge/us-east-1a", Decimal("0.40"), "0.45")
    assert len(found["times"]) == len(found["lines"]["g5.xlarge/us-east-1a"])


def test_a_cap_that_is_a_share_is_one_for_each_type(site: Site, panels: Panels) -> None:
    site.put("a", target_size=0, instance_types=["g5.xlarge", "g5.2xlarge"], spot_max_price="50%")
    found = data(panels, "prices", "a")
    assert len({row["cap"] for row in found["offerings"]}) == 2


def test_an_on_demand_pool_has_no_prices_to_watch(site: Site, panels: Panels) -> None:
    site.put("a", target_size=0, spot=False)
    answer = panels.answer("prices", "a")
    assert answer is not None
    assert answer["fault"] == "The pool is on demand: spot prices do not matter to it."


# What AWS refuses


def denied(action: str) -> Fault:
    message = f"User: arn:aws:iam::1:user/x is not authorized to perform: ec2:{action} because no policy allows it"
    return Fault(action=action, error="UnauthorizedOperation", message=message, times=9)


def test_a_refusal_harms_only_its_own_panel_which_quotes_it_with_the_remedy(site: Site, panels: Panels) -> None:
    site.put("a", target_size=1)
    site.market.faults.append(denied("DescribeSpotPriceHistory"))
    answer = panels.answer("prices", "a")
    assert answer is not None
    assert "lack the permission ec2:DescribeSpotPriceHistory. Ask for it" in answer["fault"]
    assert "UnauthorizedOperation" in answer["fault"]
    assert data(panels, "fleet")["pools"][0]["wanted"] == 1
    assert data(panels, "pool", "a")["item"]
    assert data(panels, "pool-sizes", "a")["pools"] == {}
    assert data(panels, "decisions", "a")["decisions"] == []


def test_without_the_listing_of_ec2_the_pools_are_there_and_a_note_says_what_is_missing(
    site: Site, panels: Panels
) -> None:
    site.put("a", target_size=1)
    site.market.faults.append(denied("DescribeInstances"))
    fleet = data(panels, "fleet")
    assert (fleet["pools"][0]["wanted"], fleet["cost"]) == (1, "-")
    assert "No cost is shown" in fleet["notes"][0]


def test_without_the_logs_the_rest_of_a_pool_is_there(
    site: Site, panels: Panels, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("a", target_size=1)
    monkeypatch.setattr(Deployment, "log_group", lambda *_: "/aws/lambda/gone")
    answer = panels.answer("decisions", "a")
    assert answer is not None
    assert answer["fault"].startswith("It does not exist")
    assert data(panels, "pool", "a")["story"]


# How seldom it asks


def count_calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls to AWS from now on."""
    counted: Counter[str] = Counter()
    make = clients.client

    def counting(service: str, *arguments: Any) -> Any:
        made = make(service, *arguments)
        made.meta.events.register("before-call.*", lambda model, **_: counted.update([model.name]))
        return made

    monkeypatch.setattr("cli.deployment.client", counting)
    return counted


def test_a_page_of_two_hundred_pools_that_asks_every_two_seconds_makes_few_calls(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pools(site, 200)
    calls = count_calls(monkeypatch)
    panels = Panels(Deployment())
    beginning, passed = utc_now(), 0.0
    panels.keep = Answers(lambda: beginning + timedelta(seconds=passed), KEPT)
    assert len(data(panels, "fleet")["pools"]) == 200
    data(panels, "sizes")
    assert calls == {
        "DescribeStacks": 1,
        "Scan": 2,
        "DescribeInstances": 1,
        "DescribeSpotPriceHistory": 1,
        "GetFunctionConfiguration": 1,
        "GetMetricStatistics": 1,
        "GetMetricData": 1,
    }
    calls.clear()
    for second in range(2, 62, 2):  # a minute of refreshes, as the page makes them
        passed = second
        data(panels, "fleet")
        if second % 20 == 0:
            data(panels, "sizes")
    assert calls == {
        "Scan": 2 * 30,
        "DescribeInstances": 10,
        "DescribeSpotPriceHistory": 1,
        "GetMetricStatistics": 3,
    }
    calls.clear()
    for _ in range(10):  # ten windows at the same time
        data(panels, "fleet")
    assert not calls


def write_pools(site: Site, number: int) -> None:
    """Write items without a reconcile of each."""
    for each in range(number):
        name = {"S": f"pool-{each:03}"}
        item = {"pool_name": name, "instance_types": {"L": [{"S": "g5.xlarge"}]}, "target_size": {"N": "1"}}
        site.client("dynamodb").put_item(TableName=site.settings.pools_table, Item=item)


def test_an_open_pool_asks_ec2_a_few_times_a_minute(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", target_size=1)
    calls = count_calls(monkeypatch)
    panels = Panels(Deployment())
    beginning, passed = utc_now(), 0.0
    panels.keep = Answers(lambda: beginning + timedelta(seconds=passed), KEPT)
    for second in range(0, 60, 2):
        passed = second
        data(panels, "pool", "a")
        data(panels, "decisions", "a")
        data(panels, "pool-sizes", "a")
        data(panels, "prices", "a")
    assert calls["FilterLogEvents"] == 2 * 6
    assert calls["GetMetricData"] == 1
    assert calls["DescribeInstances"] <= 10 + 4
    assert calls["DescribeSpotPriceHistory"] <= 1 + 4 + 2, "the list's, each explanation's, and the prices of 90 days"


# In one file


def test_one_file_has_the_whole_page_and_runs_nothing_that_is_not_its_own(site: Site, tmp_path: Path) -> None:
    site.put("a", target_size=1)
    site.put("b", target_size=1)
    file = tmp_path / "pools.html"
    result = site.run("page", "--out", str(file), "--pool", "b")
    assert result.exit_code == 0, result.output
    assert "the own pages of 1 pool" in result.stdout
    text = file.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
    assert "'unsafe" not in text.split("</head>")[0]
    saved = json.loads(re.search(r'id="saved">(.*)</script>', text)[1])  # type: ignore[index]  # it is there
    assert set(saved["panels"]) >= {"fleet", "sizes", "pool?pool=b", "prices?pool=b"}
    assert "pool?pool=a" not in saved["panels"]


def test_nothing_in_the_data_ends_the_element_that_holds_it() -> None:
    text = document.whole({"panels": {HOSTILE: "</script><!-- <script>"}})
    assert HOSTILE not in text
    assert text.count("</script>") == text.count("<script")


def test_a_file_that_cannot_be_written_is_said_in_one_line(site: Site, tmp_path: Path) -> None:
    result = site.run("page", "--out", str(tmp_path / "no" / "file.html"))
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "No such file or directory" in result.stderr


# The command


def test_a_stack_that_does_not_exist_is_said_at_once(site: Site) -> None:
    result = site.run("page", "--stack", "another")
    assert result.exit_code == 3
    assert "another" in result.stderr


def test_a_port_that_is_taken_is_said_in_one_line(site: Site, server: PageServer) -> None:
    result = site.run("page", "--port", str(server.server_address[1]))
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "in use" in result.stderr


@contextmanager
def command(site: Site) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the command as a process. Yields the address that it prints, and the process."""
    # A test run in the background ignores Ctrl-C, and its child processes inherit that.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from cli.main import app; app()"
    with subprocess.Popen(  # noqa: S603  our own command
        [sys.executable, "-c", code, "page"],
        env={**os.environ, **site.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as serving:
        assert serving.stdout is not None
        said = serving.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert address, said
        yield address[0], serving
        serving.kill()


def test_the_command_prints_its_address_and_ends_with_ctrl_c(site: Site) -> None:
    site.put("a", target_size=0)
    with command(site) as (url, serving):
        with urllib.request.urlopen(f"{url}api/fleet", timeout=30) as answer:  # noqa: S310  our own command
            assert json.load(answer)["data"]["pools"][0]["pool"] == "a"
        serving.send_signal(signal.SIGINT)
        _, complaint = serving.communicate(timeout=30)
    assert (serving.returncode, complaint) == (130, "")


def test_the_list_is_asked_for_as_the_list_command_asks(site: Site) -> None:
    """One question of ``list`` has a name under which the page keeps its answer, and no other name."""
    site.put("a", target_size=1, subnet_ids=["subnet-1"])
    named: list[str] = []

    def keep(what: str, _about: Any, ask: Any) -> Any:
        named.append(what)
        return ask()

    listing.look(Deployment(), keep)
    assert sorted(named) == ["instances", "list prices", "spot prices", "tick", "zones"]
