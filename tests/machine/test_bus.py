"""The bus's arbiter in long steps: equal to a loop over cycles that grants one burst after the other."""

from __future__ import annotations

from random import Random

import pytest

from accelsim.machine.dram.bus import Arbiter, Requester, cycles_of, mean_cycles

from . import small

#: Of each requester its requests in turn: cycles from when it may ask again until the request is seen, and its beats.
Jobs = dict[Requester, list[tuple[int, int]]]


def random_jobs(random: Random) -> Jobs:
    return {
        requester: [
            (random.choice([0, 0, 1, 5, 50, 400]), random.choice([1, 2, 4, 7, 64, 300]))
            for _ in range(random.randint(0, 12))
        ]
        for requester in Requester
    }


def cycle_by_cycle(jobs: Jobs, burst: int) -> list[tuple[Requester, int, int]]:
    """(requester, start of its last grant, end) of each request, in order of their last grants."""
    left = {requester: list(queue) for requester, queue in jobs.items()}
    asking = {requester: list(queue.pop(0)) for requester, queue in left.items() if queue}  # [seen, beats]
    ends, free, cycle = [], 0, 0
    while asking:
        visible = [requester for requester, (seen, _) in asking.items() if seen <= cycle]
        if free <= cycle and visible:
            requester = min(visible, key=lambda requester: (asking[requester][0], requester))
            granted = min(burst, asking[requester][1])
            free = cycle + granted
            asking[requester] = [free, asking[requester][1] - granted]
            if asking[requester][1] == 0:
                ends.append((requester, cycle, free))
                del asking[requester]
                if left[requester]:
                    gap, beats = left[requester].pop(0)
                    asking[requester] = [free + gap, beats]
        cycle += 1
    return ends


def in_long_steps(jobs: Jobs, burst: int) -> list[tuple[Requester, int, int]]:
    """The same from the arbiter, a beat of a byte a cycle."""
    left = {requester: list(queue) for requester, queue in jobs.items()}
    arbiter = Arbiter(1, burst)

    def ask(requester: Requester, free: int) -> None:
        if left[requester]:
            gap, beats = left[requester].pop(0)
            arbiter.ask(requester, (0, beats, ()), 1, free + gap)

    for requester in Requester:
        ask(requester, 0)
    ends = []
    while (ending := arbiter.advance()) is not None:
        ends.append((ending.requester, ending.start, ending.end))
        ask(ending.requester, ending.free)
    return ends


@pytest.mark.parametrize("seed", small.seeds(200, 5000))
def test_grants_are_those_of_every_cycle(seed: int) -> None:
    random = Random(seed)
    jobs, burst = random_jobs(random), random.choice([1, 2, 4, 16, 64])
    assert in_long_steps(jobs, burst) == cycle_by_cycle(jobs, burst)


@pytest.mark.parametrize("seed", range(100))
def test_the_mean_of_rows_is_that_of_many(seed: int) -> None:
    """As many rows as there are places that they begin at."""
    rng = Random(seed)
    width, length, pitch = rng.choice([1, 3, 8, 16, 24, 64]), rng.randint(1, 200), rng.randint(0, 300)
    cycles = cycles_of(rng.randrange(9) * width, length, ((width, pitch),), width, width)
    assert mean_cycles(length, pitch, width) == pytest.approx(cycles / width)
