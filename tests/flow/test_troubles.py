"""When a pool's trouble began and ended: its alarm's message says how long it lasted."""

from __future__ import annotations

from datetime import timedelta

import pytest

from docs.make.messages import PAGE, STORIES, Story, messages_of, page
from lambdas.domain.alarm.names import severity
from lambdas.domain.guide import GUIDE, Trouble
from tests.support.fakes import World


def test_the_beginning_and_the_end_of_a_trouble_are_remembered() -> None:
    world = World(status_check_seconds=5)
    world.set_all(capacity=0)
    world.edit(target_size=2, max_instances=2)
    began = world.clock()
    world.minutes(20)
    memory = world.status().memory
    assert memory.over == {}
    assert memory.begun["NO_CAPACITY"] - began < timedelta(seconds=5)
    world.set_all(capacity=5)
    world.minutes(20)
    memory = world.status().memory
    assert memory.over["NO_CAPACITY"] - memory.begun["NO_CAPACITY"] > timedelta(minutes=19)


def test_the_start_of_instances_is_the_rest_of_their_shortfall() -> None:
    world = World(pending_seconds=400, status_check_seconds=5)
    world.set_all(capacity=0)
    world.edit(target_size=1, max_instances=1)
    world.minutes(30)
    world.set_all(capacity=5)
    world.minutes(30)
    memory = world.status().memory
    assert memory.over["STARTING"] - memory.begun["STARTING"] > timedelta(minutes=30)


def test_a_trouble_that_comes_back_begins_anew() -> None:
    world = World(status_check_seconds=5)
    world.edit(target_size=1, max_instances=1, unknown=1)
    first = world.status().memory.begun["INVALID_ITEM"]
    world.minutes(1)
    world.edit(target_size=1, max_instances=1)
    world.forward(20)
    world.edit(target_size=1, max_instances=1, unknown=1)
    assert world.status().memory.begun["INVALID_ITEM"] > first
    assert "INVALID_ITEM" not in world.status().memory.over


def test_the_page_of_messages_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m docs.make.messages"


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
def test_each_fault_has_a_message_with_all_that_on_call_needs_and_one_at_its_end(story: Story) -> None:
    begun, over = messages_of(story)
    assert begun.subject.startswith(f"[{severity(story.trouble)}] spotpools: training")
    reason = {Trouble.BELOW_TARGET: Trouble.NO_CAPACITY}.get(story.trouble, story.trouble)
    for part in (GUIDE[reason].do, f"Runbook: https://example.com/runbook#{story.trouble}", "Dashboard: https://"):
        assert part in begun.body
    if story.trouble is not Trouble.ITEM_INVALID:
        assert "training lacks 4 of 4" in begun.body
        assert "it tries again at" in begun.body
    assert over.subject.startswith("[over] spotpools: training: ")
    assert " is over after 1" in over.subject
