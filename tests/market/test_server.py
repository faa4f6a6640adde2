"""The server as a separate process: its command line, its end, boto3's retries, and time that passes by itself."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.market.faces.control import Control
from localcloud.market.faces.moto_surroundings import MotoSurroundings
from localcloud.market.faces.server import MarketServer
from localcloud.market.model.clock import system_clock
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import default_offerings
from localcloud.market.model.settings import Settings
from tests.market.conftest import boto3_client
from tests.market.faces import Face, by_zone, launched, over_http

COMMAND = [sys.executable, "-m", "localcloud.market"]


@contextmanager
def command(*options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    process = subprocess.Popen(  # noqa: S603  # our own command
        [*COMMAND, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def test_the_command_prints_its_url_and_ends_with_its_standard_input() -> None:
    with command("--notice-seconds", "9", "--pending-seconds", "0.5") as (process, url):
        status, market = over_http(url, "GET", "/market")
        assert (status, market["settings"]["notice_seconds"], market["settings"]["pending_seconds"]) == (200, 9, 0.5)
        assert process.stdin
        process.stdin.close()
        assert process.wait(timeout=10) == 0


def test_the_command_plays_a_trace_from_the_start(tmp_path: Any) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(
        "time,type,zone,available,price\n2023-01-01T00:00:00Z,p3.2xlarge,us-east-1c,1,1.1\n"
        "2023-01-01T09:00:00Z,p3.2xlarge,us-east-1c,0,1.1\n"
    )
    with command("--trace", str(path), "--speed", "60", "--capacity-when-available", "7") as (_, url):
        _, market = over_http(url, "GET", "/market")
    assert (market["replay"]["speed"], market["replay"]["capacity_when_available"]) == (60, 7)
    (shown,) = [one for one in market["offerings"] if one["instance_type"] == "p3.2xlarge" and one["capacity"]]
    assert (shown["capacity"], shown["spot_price"]) == (7, "1.1")


def test_the_command_refuses_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for options, says in (
            (["--port", str(taken.getsockname()[1])], "in use"),
            (["--trace", "absent.csv", "--start", "noon"], "start"),
        ):
            ended = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603  # our own command
            assert (ended.returncode, says in ended.stderr, "Traceback" in ended.stderr) == (1, True, False)


@pytest.fixture
def live() -> Iterator[tuple[Face, list[Any], threading.Event]]:
    """Serve a market whose time passes by itself, and collect its events."""
    settings = Settings(pending_seconds=0.05, notice_seconds=0.1, shutting_down_seconds=0.05)
    market = Market(
        clock=system_clock, offerings=default_offerings(), settings=settings, surroundings=MotoSurroundings("us-east-1")
    )
    heard: list[Any] = []
    all_gone = threading.Event()

    def sink(events: list[Any]) -> None:
        heard.append(events)
        if events[-1]["detail"].get("state") == "terminated":
            all_gone.set()

    server = MarketServer(market, Control(market, settings=settings), sink=sink)
    server.start()
    client = boto3_client(server.url, attempts=3)
    client.create_launch_template(LaunchTemplateName=server.url[-5:], LaunchTemplateData={"ImageId": "ami-1"})

    def control(method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        return over_http(server.url, method, path, body)

    face = Face(client, market.clock, control)  # type: ignore[arg-type]  # no test here moves the clock
    face.template = server.url[-5:]
    yield face, heard, all_gone
    server.stop()


def test_time_passes_by_itself_and_events_of_one_moment_arrive_together(
    live: tuple[Face, list[Any], threading.Event],
) -> None:
    face, heard, all_gone = live
    ids = launched(face.launch(3))
    face.ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig={"Delay": 0, "MaxAttempts": 500})
    face.tell("POST", "/market/interrupt", {"instance_ids": ids})
    assert all_gone.wait(timeout=10)
    (warnings,) = [batch for batch in heard if "instance-action" in batch[0]["detail"]]
    assert [event["detail"]["instance-id"] for event in warnings] == ids
    seen = [event["detail"]["state"] for batch in heard for event in batch if "state" in event["detail"]]
    assert [seen.count(state) for state in ("pending", "running", "shutting-down", "terminated")] == [3, 3, 3, 3]


def test_boto3_retries_after_throttling_and_dropped_connections(live: tuple[Face, list[Any], threading.Event]) -> None:
    face, *_ = live
    face.tell("POST", "/market/faults", {"action": "CreateFleet", "error": "RequestLimitExceeded"})
    face.tell("POST", "/market/faults", {"action": "CreateFleet", "drop_connection": True, "where": "after"})
    assert by_zone(face.launch(2)) == {"us-east-1a": 2}
    market = face.tell("GET", "/market")
    assert (market["calls"]["CreateFleet"], len(market["instances"])) == (3, 2)


def test_moto_answers_other_actions_and_other_ways_to_launch_are_refused(
    live: tuple[Face, list[Any], threading.Event],
) -> None:
    face, *_ = live
    assert face.ec2.describe_vpcs()["Vpcs"]
    calls: tuple[Callable[[], Any], ...] = (
        lambda: face.ec2.run_instances(MinCount=1, MaxCount=1),
        lambda: face.ec2.stop_instances(InstanceIds=["i-1"]),
        lambda: face.ec2.create_tags(Resources=["i-1", "vpc-1"], Tags=[{"Key": "a", "Value": "b"}]),
    )
    for call in calls:
        with pytest.raises(ClientError, match="UnsupportedOperation"):
            call()


def test_many_callers_launch_no_more_than_the_capacity(live: tuple[Face, list[Any], threading.Event]) -> None:
    face, *_ = live
    face.offer("*", capacity=1)
    requests = [face.request(1) for _ in range(8)]
    threads = [threading.Thread(target=face.ec2.create_fleet, kwargs=request) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(face.tell("GET", "/market")["instances"]) == 4
