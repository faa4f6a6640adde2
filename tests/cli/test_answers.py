"""Answers that are kept: each for its own time, refusals too, and asked once by many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from time import sleep

import pytest

from cli.answers import REFUSED_LASTS, Answers, keep_none
from cli.exits import AwsFaultError

START = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Questions:
    """A clock, and an AWS that counts what it is asked."""

    def __init__(self) -> None:
        self.now, self.asked = START, 0
        self.keep = Answers(lambda: self.now, {"prices": timedelta(minutes=1), "pools": timedelta(seconds=2)})

    def ask(self) -> int:
        self.asked += 1
        return self.asked

    def refuse(self) -> int:
        self.asked += 1
        raise AwsFaultError(f"refused {self.asked}")

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def test_an_answer_is_kept_for_its_own_time() -> None:
    of = Questions()
    assert [of.keep("prices", "a", of.ask), of.keep("pools", (), of.ask)] == [1, 2]
    of.later(2)
    assert [of.keep("prices", "a", of.ask), of.keep("pools", (), of.ask)] == [1, 3]
    of.later(58)
    assert of.keep("prices", "a", of.ask) == 4


def test_answers_about_different_things_are_kept_apart() -> None:
    of = Questions()
    assert [of.keep("prices", "a", of.ask), of.keep("prices", "b", of.ask), of.keep("prices", "a", of.ask)] == [1, 2, 1]


def test_what_has_no_time_is_asked_each_time() -> None:
    of = Questions()
    assert [of.keep("tables", (), of.ask), of.keep("tables", (), of.ask)] == [1, 2]
    assert [keep_none("prices", "a", of.ask), keep_none("prices", "a", of.ask)] == [3, 4]


def test_a_refusal_is_kept_too_but_not_for_long_because_a_permission_may_be_given() -> None:
    of = Questions()
    for _ in range(2):
        with pytest.raises(AwsFaultError, match="refused 1"):
            of.keep("prices", "a", of.refuse)
    of.later(REFUSED_LASTS.total_seconds())
    assert of.keep("prices", "a", of.ask) == 2


def test_two_who_want_an_answer_at_once_ask_once() -> None:
    of, both = Questions(), Barrier(2)

    def slowly() -> int:
        sleep(0.1)
        return of.ask()

    def want() -> int:
        both.wait(timeout=10)
        return of.keep("prices", "a", slowly)

    with ThreadPoolExecutor(2) as threads:
        assert [one.result() for one in [threads.submit(want), threads.submit(want)]] == [1, 1]


def test_old_answers_are_forgotten() -> None:
    of = Questions()
    for number in range(100):
        of.keep("pools", number, of.ask)
        of.later(1)
    assert len(of.keep._kept) < 5  # noqa: SLF001  what it holds is what this is about
