import asyncio

import pytest

from kdsweep.sweep.jobs import Job, Outcome
from kdsweep.sweep.pool import MAX_DEATHS, JobPool

WAIT = 5.0


def job(trial, **facts):
    return Job(trial, {}, "home", f"runs/{trial}", **facts)


def play(scene):
    """Runs a scene with a fresh pool."""

    async def stage():
        return await scene(JobPool(clock=lambda: 7.0, rung_wait_s=WAIT))

    return asyncio.run(stage())


async def settle():
    """Lets everything that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def epoch(pool, slot, trial, number):
    return await pool.report(slot, trial, "train", number, 9, {"miou": number / 10})


def test_jobs_are_handed_out_in_order_each_to_one_slot():
    async def scene(pool):
        for name in ("a", "b"):
            await pool.submit(job(name))
        await pool.submit(job("a"))
        taken = [(await pool.take(slot, "n", WAIT))[0].trial for slot in ("s0", "s1")]
        return taken, await pool.take("s2", "n", 0.01)

    assert play(scene) == (["a", "b"], (None, False))


def test_a_waiting_slot_gets_a_job_the_moment_it_comes():
    async def scene(pool):
        waiting = asyncio.create_task(pool.take("s0", "n", WAIT))
        await settle()
        await pool.submit(job("a"))
        return (await waiting)[0].trial

    assert play(scene) == "a"


def test_a_follower_gets_news_once_and_then_the_outcome():
    async def scene(pool):
        await pool.submit(job("a"))
        await pool.take("s0", "node", WAIT)
        assert await epoch(pool, "s0", "a", 1)
        first, outcome, _ = await pool.follow("a", 0, WAIT)
        await pool.finish("s0", "a", Outcome("finished", metrics={"miou": 0.5}))
        rest, end, _ = await pool.follow("a", len(first), WAIT)
        return [(u.stage, u.epoch, u.slot, u.node) for u in first], outcome, rest, end

    news, outcome, rest, end = play(scene)
    assert news == [("started", 0, "s0", "node"), ("train", 1, "s0", "node")]
    assert outcome is None
    assert rest == []
    assert (end.state, end.metrics, end.time_s) == ("finished", {"miou": 0.5}, 7.0)


def test_a_dropped_job_stops_at_its_next_report_and_leaves_the_queue():
    async def scene(pool):
        await pool.submit(job("a"))
        await pool.submit(job("b"))
        await pool.take("s0", "n", WAIT)
        await pool.drop("a")
        await pool.drop("b")
        return await epoch(pool, "s0", "a", 1), await pool.take("s1", "n", 0.01)

    assert play(scene) == (False, (None, False))


@pytest.mark.parametrize("go_on", [True, False])
def test_a_worker_waits_at_a_rung_for_the_decision(go_on):
    async def scene(pool):
        await pool.submit(job("a", rungs=(2,)))
        await pool.take("s0", "n", WAIT)
        assert await epoch(pool, "s0", "a", 1)
        waiting = asyncio.create_task(epoch(pool, "s0", "a", 2))
        await settle()
        assert not waiting.done()
        await pool.decide("a", 2, go_on)
        return await waiting

    assert play(scene) is go_on


def test_a_rebuilt_slot_takes_its_unfinished_job_again():
    async def scene(pool):
        await pool.submit(job("a"))
        await pool.submit(job("b"))
        await pool.take("s0", "n", WAIT)
        again, _ = await pool.take("s0", "other", WAIT)
        updates, _, _ = await pool.follow("a", 0, WAIT)
        return again.trial, [update.node for update in updates]

    assert play(scene) == ("a", ["n", "other"])


def test_the_job_of_a_lost_slot_goes_to_the_head_of_the_queue():
    async def scene(pool):
        for name in ("a", "b"):
            await pool.submit(job(name))
        await pool.take("s0", "n", WAIT)
        await pool.slot_lost("s0")
        return (await pool.take("s1", "n", WAIT))[0].trial, await pool.slots()

    assert play(scene) == ("a", {"s1": "a"})


def test_a_job_that_kills_its_worker_again_and_again_fails_and_the_slot_goes_on():
    async def scene(pool):
        await pool.submit(job("a"))
        await pool.submit(job("b"))
        taken = [(await pool.take("s0", "n", WAIT))[0].trial for _ in range(MAX_DEATHS + 1)]
        _, outcome, _ = await pool.follow("a", MAX_DEATHS, WAIT)
        return taken, outcome

    taken, outcome = play(scene)
    assert taken == ["a"] * MAX_DEATHS + ["b"]
    assert outcome.state == "failed"
    assert "its worker died 3 times in a row after epoch 0" in outcome.reason


def test_a_job_that_gets_on_between_deaths_is_not_given_up():
    async def scene(pool):
        await pool.submit(job("a"))
        for number in range(1, 2 * MAX_DEATHS):
            taken, _ = await pool.take("s0", "n", WAIT)
            await epoch(pool, "s0", "a", number)
        return taken.trial

    assert play(scene) == "a"


def test_closing_ends_every_wait():
    async def scene(pool):
        await pool.submit(job("a", rungs=(1,)))
        await pool.take("s0", "n", WAIT)
        calls = (
            pool.take("s1", "n", WAIT),
            pool.follow("a", 2, WAIT),
            epoch(pool, "s0", "a", 1),
        )
        waits = [asyncio.create_task(call) for call in calls]
        await settle()
        await pool.close()
        return await asyncio.gather(*waits)

    taken, followed, go_on = play(scene)
    assert taken == (None, True)
    assert followed[2]
    assert not go_on


def test_the_first_word_about_a_job_counts():
    async def scene(pool):
        await pool.submit(job("a"))
        await pool.take("s0", "n", WAIT)
        await pool.finish("s0", "a", Outcome("failed", "rank 1 ran out of memory"))
        await pool.finish("s0", "a", Outcome("finished"))
        return (await pool.follow("a", 1, WAIT))[1].reason

    assert play(scene) == "rank 1 ran out of memory"
