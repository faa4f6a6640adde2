"""``make accept``: the acceptance of Spot Pools on an AWS account, or on the local cloud."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

import botocore.session

from acceptance.claims import Verdict
from acceptance.cleaning import Cleaner
from acceptance.costs import HOUR, Rates, usd
from acceptance.guard import CLEANING, LimitError, highest_possible
from acceptance.place import Place
from acceptance.plan import MINUTES, STEPS, Step, extras, most_needed
from acceptance.player import ENDED, Player, complete
from acceptance.prices import ASSUMED, highest
from acceptance.report import Report, as_html, as_json, standing, summary
from acceptance.run import Run
from acceptance.state import State, StateError, load
from cli.aws_errors import expected_errors
from cli.exits import AwsFaultError, ExpectedError
from infra.deploy import NotReadyError, check_account, check_tools
from localcloud.__main__ import explain
from localcloud.cloud import LocalCloud
from localcloud.processes import LocalCloudError
from localcloud.progress import Progress

FOLDER = Path(".accept")
STACK = "spotpools-accept"
NAME = re.compile(rf"{STACK}(-[a-z0-9-]+)?")
NOTICE_SECONDS = 10
"""Two minutes on AWS. Shorter on a local cloud of its own, so that nobody waits for an instance to end."""
TYPES = "t3.nano,t3a.nano,t3.micro,t3a.micro"
DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130


class UsageError(Exception):
    """An option is wrong, or does not fit the state of an earlier run. The message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, resume or remove; returns 0 if nothing differs, no step failed and nothing is left."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _cloud(options, progress):
            place = Place(options.stack, options.region, folder=options.folder / options.stack, progress=progress)
            with expected_errors():
                return _choose(options, place)
    except (UsageError, StateError, NotReadyError, LimitError) as error:
        sys.stderr.write(f"accept: {error}\n")
        return USAGE
    except ExpectedError as error:
        sys.stderr.write(f"accept: {error}\n")
        return FAILED
    except LocalCloudError as error:
        return explain(error)
    except KeyboardInterrupt:
        sys.stderr.write(f"accept: stopped. Remove what is left with --clean --stack {options.stack}\n")
        return STOPPED


@contextmanager
def _cloud(options: argparse.Namespace, progress: Progress) -> Iterator[None]:
    """With --local: the local cloud of the environment, or one of its own. Else the account of the credentials."""
    if options.profile:
        os.environ["AWS_PROFILE"] = options.profile
    running = "SPOTPOOLS_MARKET_URL" in os.environ
    if not options.local:
        if running:
            raise UsageError("the environment points to a local cloud: give --local, or use another shell")
        yield
    elif running:
        yield
    else:
        with LocalCloud(family="accept", progress=progress) as cloud:
            cloud.market.settings(notice_seconds=NOTICE_SECONDS)
            os.environ.update(cloud.environment())
            yield


def _choose(options: argparse.Namespace, place: Place) -> int:
    if options.dry_run:
        return _dry_run(options, place)
    _check_tools(options, place)
    account = place.account()
    path = options.folder / f"{account}-{place.deployment.region}-{options.stack}.json"
    state = load(path)
    if options.clean:
        return _clean(options, place, state or _new(options, place, path, account, ASSUMED))
    if options.resume:
        if state is None:
            raise UsageError(f"there is no run of stack {options.stack} to resume; {path} does not exist")
        if datetime.now(UTC) > state.deadline:
            raise UsageError("the time of that run has ended: remove it with --clean")
        return _play(options, Run(place, state))
    if state is not None:
        raise UsageError(
            f"a run of stack {options.stack} was cut short: continue it with --resume or remove it with --clean"
        )
    if place.exists():
        raise UsageError(f"a stack {options.stack} exists: remove it with --clean, or choose another --stack")
    price = highest(place.deployment, options.types)
    state = _new(options, place, path, account, price)
    _refuse_too_expensive(options, price)
    state.save()
    return _play(options, Run(place, state))


def _check_tools(options: argparse.Namespace, place: Place) -> None:
    check_tools(os.environ)
    if not place.local:
        check_account(botocore.session.get_session(), os.environ, options.region, bootstrap_needed=True)


def _new(options: argparse.Namespace, place: Place, path: Path, account: str, price: Decimal) -> State:
    now = datetime.now(UTC)
    return State(
        path=path,
        stack=options.stack,
        place=place.name,
        account=account,
        region=place.deployment.region,
        started=now,
        deadline=now + timedelta(minutes=options.minutes),
        budget=options.budget,
        most_instances=options.most_instances,
        types=options.types,
        price=price,
    )


def _refuse_too_expensive(options: argparse.Namespace, price: Decimal) -> Decimal:
    """The highest possible cost. Raises LimitError if it is above the budget."""
    time = timedelta(minutes=options.minutes)
    most = highest_possible(Rates(price), most_instances=options.most_instances, time=time, extra=extras())
    if most > options.budget:
        raise LimitError(
            f"the run could cost {usd(most)}, above the budget of {usd(options.budget)}. Raise --budget, or lower "
            "--minutes or --most-instances."
        )
    return most


def _dry_run(options: argparse.Namespace, place: Place) -> int:
    """Print the plan and the highest possible cost. Calls nothing but prices, and changes nothing."""
    say = place.progress.say
    try:
        with expected_errors():
            price, source = highest(place.deployment, options.types), "read from AWS"
    except AwsFaultError as error:
        price, source = ASSUMED, f"assumed: {error}"
    say(f"Stack {options.stack}, types {', '.join(options.types)}, at most {options.most_instances} instances at once.")
    for step in STEPS:
        where = "  (only on AWS)" if step.only_aws else ""
        money = f", {usd(step.extra)} more" if step.extra else ""
        claims = f": {', '.join(step.claims)}" if step.claims else ""
        say(f"  {step.name:<10} at most {step.minutes:g} min, {step.adds} more instances{money}{where}{claims}")
    rates, time = Rates(price), timedelta(minutes=options.minutes)
    say(f"  {'removal':<10} at most {CLEANING.total_seconds() / 60:g} min")
    say(
        f"Highest price of an instance-hour: {price} USD ({source}); {usd(rates.whole_instance)} with its address and "
        f"volume. The stack: {usd(rates.cost(instances=0, time=HOUR))} an hour."
    )
    if options.most_instances < most_needed():
        say(f"The whole plan needs {most_needed()} instances at once. Steps that do not fit are refused.")
    most = highest_possible(rates, most_instances=options.most_instances, time=time, extra=extras())
    say(
        f"Highest possible cost: {usd(most)} in {options.minutes} minutes and the removal. "
        f"Budget: {usd(options.budget)}."
    )
    _refuse_too_expensive(options, price)
    return DONE


def _play(options: argparse.Namespace, run: Run) -> int:
    """Play what is left of the plan, then remove everything, whatever happened, and write the report."""
    chosen = [step for step in STEPS if not options.only or step.name in ("deploy", *options.only)]
    ended_by = ""
    try:
        _steps(run, chosen)
    except LimitError as error:
        ended_by = f"a limit was exceeded: {error}"
    except KeyboardInterrupt:
        ended_by = "it was stopped"
    except BaseException:
        _remove(options, run, "of a fault of its own")
        raise
    return _remove(options, run, ended_by)


def _steps(run: Run, chosen: list[Step]) -> None:
    player, first = Player(run), [step.name for step in chosen].index("deploy") + 1
    # The rest needs the connections, and these need the stack.
    if player.play(chosen[:first]):
        with run.place.connected():
            player.play(chosen[first:])


def _clean(options: argparse.Namespace, place: Place, state: State) -> int:
    """Remove what a killed run left. Without its state, the tables and logs of a stack that is gone are unknown."""
    run = Run(place, state)
    return _remove(options, run, "it was killed" if state.steps else "nothing was played")


def _remove(options: argparse.Namespace, run: Run, ended_by: str) -> int:
    say = run.place.progress.say
    run.state.save()
    say(f"Removing everything that belongs to stack {run.place.stack}. Ctrl-C leaves the rest for --clean.")
    cleaner = Cleaner(run)
    left = cleaner.clean()
    report = Report(
        place=run.place.name,
        account=run.state.account,
        stack=run.place.stack,
        region=run.state.region,
        started=run.state.started,
        ended=run.now(),
        budget=run.state.budget,
        spent=run.spent(),
        most_instances=run.state.most_instances,
        instances=len(run.state.lives),
        types=run.state.types,
        steps=run.state.steps,
        titles={step.name: step.title for step in STEPS},
        findings=complete(run.state.findings),
        left=left,
        faults=cleaner.faults,
        ended_by=ended_by,
    )
    if run.state.steps:
        _write(options.report, report, say)
    if left:
        run.state.save()
        say("\n".join(["Not everything was removed:", *(f"  {one}" for one in left), "Try again with --clean."]))
        return FAILED
    run.state.forget()
    run.place.tidy()
    say("Nothing is left.")
    if options.clean:
        return DONE
    played = all(one.outcome in ENDED for one in run.state.steps.values())
    differs = any(one.verdict is Verdict.DIFFERS for one in report.findings)
    return DONE if played and not differs and not ended_by else FAILED


def _write(to: Path, report: Report, say: Callable[[str], None]) -> None:
    for suffix, text in ((".json", as_json(report)), (".html", as_html(report))):
        to.with_suffix(suffix).write_text(text, encoding="utf-8")
    say(f"{standing(report)} Claims: {summary(report)}.")
    if report.ended_by:
        say(f"It ended early: {report.ended_by}")
    say(f"Report: {to.with_suffix('.html')} and {to.with_suffix('.json')}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m acceptance", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--dry-run", action="store_true", help="print the plan and the highest possible cost; make nothing"
    )
    what.add_argument("--resume", action="store_true", help="continue a run that was killed, within its own limits")
    what.add_argument("--clean", action="store_true", help="remove everything that a run left")
    parser.add_argument("--local", action="store_true", help="on the local cloud instead of an AWS account")
    parser.add_argument(
        "--stack", type=_stack, default=STACK, help=f"name of its stack: {STACK}, or {STACK}-… ({STACK})"
    )
    parser.add_argument("--region", help="where (default: AWS_REGION, AWS_DEFAULT_REGION or the profile's)")
    parser.add_argument("--profile", help="the AWS profile (default: AWS_PROFILE)")
    parser.add_argument("--budget", type=_dollars, default=Decimal(2), help="US dollars it must not exceed (2)")
    parser.add_argument("--most-instances", type=_count, default=4, help="instances alive at once, never exceeded (4)")
    parser.add_argument("--minutes", type=_count, default=MINUTES, help=f"time before it only removes ({MINUTES})")
    parser.add_argument("--types", type=_types, default=_types(TYPES), help=f"instance types, x86_64 ({TYPES})")
    parser.add_argument("--only", type=_step, nargs="+", default=[], metavar="STEP", help="play only these steps")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"for state and logs ({FOLDER})")
    parser.add_argument("--report", type=Path, default=Path("accept-report"), help="the report's files (accept-report)")
    return parser


def _stack(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text}: must be {STACK}, or begin with {STACK}-: --clean deletes this stack")
    return text


def _dollars(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal()
    if not (amount.is_finite() and amount > 0):
        raise argparse.ArgumentTypeError(f"{text}: must be a number above 0")
    return amount


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, 1 or more")
    return int(text)


def _types(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _step(text: str) -> str:
    names = [step.name for step in STEPS]
    if text not in names:
        raise argparse.ArgumentTypeError(f"{text}: there is no such step; choose from {', '.join(names)}")
    return text


if __name__ == "__main__":
    sys.exit(main())
