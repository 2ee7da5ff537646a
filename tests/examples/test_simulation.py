"""The simulation of steps over links agrees with formulas, and with what two workers took."""

from __future__ import annotations

import pytest

from docs.simulation import (
    Design,
    Link,
    Simulation,
    communication_seconds,
    copies_seconds,
    harmonic,
    mean_step,
    ring_all_reduce,
    ring_bytes,
    ring_seconds,
    sent,
    step_ends,
    uneven,
)

LINK = Link("test", 1e9, 1e-5)
SIZE = 1e8
COUNTS = [1, 2, 3, 8, 64]


def test_tasks_wait_for_tasks_and_ports() -> None:
    simulation = Simulation()
    first = simulation.task(2.0, ["a"])
    second = simulation.task(1.0, ["a"])  # the same resource, once it is free
    third = simulation.task(1.0, ["b"])  # another one, at once
    fourth = simulation.task(0.5, ["b"], [first, third])
    ends = simulation.run()
    assert [ends[task] for task in (first, second, third, fourth)] == [2.0, 3.0, 1.0, 2.5]


def test_who_came_first_is_served_first() -> None:
    simulation = Simulation()
    simulation.task(1.0, ["port"])
    waiting = [simulation.task(1.0, ["port"]) for _ in range(3)]
    ends = simulation.run()
    assert [ends[task] for task in waiting] == [2.0, 3.0, 4.0]


def test_a_port_sends_and_receives_at_once() -> None:
    simulation = Simulation()
    there = sent(simulation, LINK, SIZE, 0, 1, [])
    back = sent(simulation, LINK, SIZE, 1, 0, [])
    ends = simulation.run()
    assert ends[there] == ends[back] == pytest.approx(LINK.seconds(SIZE))


@pytest.mark.parametrize("devices", COUNTS)
def test_a_ring_takes_what_its_formula_says(devices: int) -> None:
    """2(N−1) rounds of P/N bytes: Patarasuk and Yuan, J. Parallel Distrib. Comput. 69 (2009) 117."""
    simulation = Simulation()
    reduced = ring_all_reduce(simulation, LINK, SIZE, [simulation.task(0.0) for _ in range(devices)])
    ends = simulation.run()
    assert [ends[task] for task in reduced] == pytest.approx([ring_seconds(LINK, SIZE, devices)] * devices)


def test_the_bytes_of_a_ring_tend_to_twice_the_parameters() -> None:
    assert [ring_bytes(1.0, devices) for devices in (1, 2, 4, 64)] == [0, 1.0, 1.5, 2 * 63 / 64]


@pytest.mark.parametrize("late", range(4))
def test_a_ring_waits_for_the_last(late: int) -> None:
    """Whoever is late, nobody has the sum before its part could have gone around."""
    simulation = Simulation()
    ready = [simulation.task(1.0 if device == late else 0.0) for device in range(4)]
    reduced = ring_all_reduce(simulation, LINK, SIZE, ready)
    ends = simulation.run()
    last = max(ends[task] for task in reduced)
    assert 1.0 + 3 * LINK.seconds(SIZE / 4) <= last <= 1.0 + ring_seconds(LINK, SIZE, 4) + 1e-12


@pytest.mark.parametrize("devices", COUNTS)
@pytest.mark.parametrize("design", Design)
def test_even_steps_take_their_parts_one_after_the_other(design: Design, devices: int) -> None:
    """Compute, ring, apply; with one set copies and gradients instead of the ring."""
    compute, apply = 0.5, 0.01
    steps = step_ends(design, LINK, SIZE, [[compute] * devices] * 3, apply)
    each = compute + apply + communication_seconds(design, LINK, SIZE, devices)
    assert mean_step(steps) == pytest.approx(each, rel=0.02)
    assert mean_step(steps) <= each * (1 + 1e-12)


def test_copies_queue_up_at_the_first_device() -> None:
    one_set, mirrored = (step_ends(design, LINK, SIZE, [[0.0] * 8])[0] for design in Design)
    assert one_set == pytest.approx(copies_seconds(LINK, SIZE, 8))
    assert one_set > mirrored


@pytest.mark.parametrize("devices", [1, 2, 8, 64])
def test_the_slowest_of_uneven_devices_sets_the_pace(devices: int) -> None:
    """The mean of the largest of N exponential draws is that of one times 1 + 1/2 + … + 1/N."""
    instant = Link("instant", 1e30, 0.0)
    steps = step_ends(Design.MIRRORED, instant, 1.0, uneven(1.0, 0.2, devices, 400), ring=False)
    assert mean_step(steps) == pytest.approx(1 + 0.2 * harmonic(devices), rel=0.02)


def test_the_ring_by_its_formula_is_the_ring_message_by_message() -> None:
    computing = uneven(1.0, 0.1, 8, 5)
    whole, formula = (step_ends(Design.MIRRORED, LINK, SIZE, computing, ring=ring) for ring in (True, False))
    assert mean_step(whole) == pytest.approx(mean_step(formula), rel=0.02)


def test_one_device_that_is_always_slow_holds_all_others() -> None:
    computing = [[1.5, *[1.0] * 7]] * 4
    steps = step_ends(Design.MIRRORED, LINK, 1e3, computing)
    assert mean_step(steps) == pytest.approx(1.5, rel=1e-3)
