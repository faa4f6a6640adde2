"""When a pool's trouble began and ended: its alarm's message says how long it lasted."""

from __future__ import annotations

from datetime import timedelta

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
