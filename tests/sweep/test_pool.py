import asyncio

import pytest
from ray.util.state.common import DEFAULT_RPC_TIMEOUT

from kdsweep.sweep.jobs import Group, Job, Outcome
from kdsweep.sweep.pool import MAX_DEATHS, MAX_LOSSES, RUNG_WAIT_S, JobPool

WAIT = 5.0


def job(trial, **facts):
    return Job(trial, {}, "home", f"runs/{trial}", **facts)


def group(slot, again=0, nodes=("n",)):
    """Workers of a slot; another `again` gives those that came after a rebuild."""
    return Group(slot, f"{slot}/{again}", nodes[0], frozenset(nodes))


def play(scene):
    """Runs a scene with a fresh pool."""

    async def stage():
        return await scene(JobPool(clock=lambda: 7.0, rung_wait_s=WAIT))

    return asyncio.run(stage())


async def settle():
    """Lets everything that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def take(pool, slot, again=0, nodes=("n",), wait_s=WAIT):
    """The trial and attempt that a slot's workers get, or None; and whether they have to end."""
    job, over = await pool.take(group(slot, again, nodes), wait_s)
    return (job and (job.trial, job.attempt)), over


async def epoch(pool, trial, number, attempt=1):
    return await pool.report(trial, attempt, "train", number, 9, {"miou": number / 10})


def test_jobs_are_handed_out_in_order_each_to_one_slot():
    async def scene(pool):
        for name in ("a", "b"):
            await pool.submit(job(name))
        await pool.submit(job("a"))
        taken = [await take(pool, slot) for slot in ("s0", "s1")]
        return taken, await take(pool, "s2", wait_s=0.01)

    assert play(scene) == ([(("a", 1), False), (("b", 1), False)], (None, False))


def test_a_waiting_slot_gets_a_job_the_moment_it_comes():
    async def scene(pool):
        waiting = asyncio.create_task(take(pool, "s0"))
        await settle()
        await pool.submit(job("a"))
        return await waiting

    assert play(scene) == (("a", 1), False)


def test_a_follower_gets_news_once_and_then_the_outcome():
    async def scene(pool):
        await pool.submit(job("a"))
        await take(pool, "s0")
        assert await epoch(pool, "a", 1)
        first, outcome, _ = await pool.follow("a", 0, WAIT)
        await pool.finish("a", 1, Outcome("finished", metrics={"miou": 0.5}))
        rest, end, _ = await pool.follow("a", len(first), WAIT)
        return [(u.stage, u.epoch, u.slot, u.node) for u in first], outcome, rest, end

    news, outcome, rest, end = play(scene)
    assert news == [("started", 0, "s0", "n"), ("train", 1, "s0", "n")]
    assert outcome is None
    assert rest == []
    assert (end.state, end.metrics, end.time_s) == ("finished", {"miou": 0.5}, 7.0)


def test_a_dropped_job_stops_at_its_next_report_and_leaves_the_queue():
    async def scene(pool):
        await pool.submit(job("a"))
        await pool.submit(job("b"))
        await take(pool, "s0")
        await pool.drop("a")
        await pool.drop("b")
        return await epoch(pool, "a", 1), await take(pool, "s1", wait_s=0.01)

    assert play(scene) == (False, (None, False))


@pytest.mark.parametrize("go_on", [True, False])
def test_a_worker_waits_at_a_rung_for_the_decision(go_on):
    async def scene(pool):
        await pool.submit(job("a", rungs=(2,)))
        await take(pool, "s0")
        assert await epoch(pool, "a", 1)
        waiting = asyncio.create_task(epoch(pool, "a", 2))
        await settle()
        assert not waiting.done()
        await pool.decide("a", 2, go_on)
        return await waiting

    assert play(scene) is go_on


def test_a_worker_waits_at_a_rung_for_longer_than_ray_keeps_the_driver_from_deciding():
    """It asks Ray's state up to three times in a row after a slot has died."""
    assert RUNG_WAIT_S > 3 * DEFAULT_RPC_TIMEOUT


def test_a_rebuilt_slot_takes_its_unfinished_job_again():
    async def scene(pool):
        await pool.submit(job("a"))
        await pool.submit(job("b"))
        await take(pool, "s0")
        again, _ = await take(pool, "s0", again=1, nodes=("other",))
        updates, _, _ = await pool.follow("a", 0, WAIT)
        return again, [update.node for update in updates]

    assert play(scene) == (("a", 2), ["n", "other"])


def test_the_job_of_a_lost_slot_goes_to_the_head_of_the_queue():
    async def scene(pool):
        for name in ("a", "b"):
            await pool.submit(job(name))
        await take(pool, "s0")
        await pool.slot_lost("s0")
        return await take(pool, "s1"), await pool.slots()

    assert play(scene) == ((("a", 2), False), {"s1": "a"})


def test_who_was_given_up_is_told_to_stop_and_changes_nothing():
    async def scene(pool):
        await pool.submit(job("a"))
        await take(pool, "s0")
        await pool.slot_lost("s0")
        between = await epoch(pool, "a", 1)
        await take(pool, "s1")
        assert await epoch(pool, "a", 1, attempt=2)
        late = await epoch(pool, "a", 7)
        await pool.finish("a", 1, Outcome("failed", "cut off"))
        updates, outcome, _ = await pool.follow("a", 0, WAIT)
        back = await take(pool, "s0")
        return between, late, [(u.slot, u.epoch) for u in updates], outcome, back

    told = [("s0", 0), ("s1", 0), ("s1", 1)]
    assert play(scene) == (False, False, told, None, (None, True))


def test_workers_that_a_rebuilt_slot_has_replaced_are_sent_away():
    async def scene(pool):
        await pool.submit(job("a"))
        await take(pool, "s0")
        await take(pool, "s0", again=1)
        stale = await epoch(pool, "a", 1), await take(pool, "s0")
        return stale, await epoch(pool, "a", 1, attempt=2), await pool.slots()

    assert play(scene) == ((False, (None, True)), True, {"s0": "a"})


def test_who_waits_at_a_rung_stops_when_its_job_is_moved():
    async def scene(pool):
        await pool.submit(job("a", rungs=(1,)))
        await take(pool, "s0")
        waiting = asyncio.create_task(epoch(pool, "a", 1))
        await settle()
        await pool.slot_lost("s0")
        return await waiting

    assert play(scene) is False


@pytest.mark.parametrize(("lost", "closed"), [({"m"}, set()), (set(), {"m"})])
def test_the_job_of_a_slot_with_any_worker_on_a_node_that_is_gone_moves_at_once(lost, closed):
    async def scene(pool):
        for name in ("a", "b", "c"):
            await pool.submit(job(name))
        await pool.follow_nodes({"n", "m"}, set(), set())
        await take(pool, "s0", nodes=("n",))
        await take(pool, "s1", nodes=("n", "m"))
        await pool.follow_nodes({"n"}, lost, closed)
        gone = await epoch(pool, "b", 1), await take(pool, "s1", nodes=("n", "m"))
        return gone, await take(pool, "s2", nodes=("n",)), await epoch(pool, "a", 1)

    assert play(scene) == ((False, (None, True)), (("b", 2), False), True)


def test_workers_on_a_node_that_is_not_known_yet_wait_for_its_probe():
    async def scene(pool):
        await pool.submit(job("a"))
        await pool.follow_nodes({"n"}, set(), set())
        assert await take(pool, "s0", nodes=("new",), wait_s=0.01) == (None, False)
        waiting = asyncio.create_task(take(pool, "s0", nodes=("new",)))
        await settle()
        await pool.follow_nodes({"n", "new"}, set(), set())
        return await waiting

    assert play(scene) == (("a", 1), False)


def test_workers_on_a_refused_node_are_sent_away_and_the_node_is_named_to_the_next():
    async def scene(pool):
        await pool.follow_nodes({"n"}, set(), {"bad"})
        return await take(pool, "s0", nodes=("bad",)), await pool.closed_nodes(), await pool.slots()

    assert play(scene) == ((None, True), {"bad"}, {})


def test_a_job_that_kills_its_worker_again_and_again_fails_and_the_slot_goes_on():
    async def scene(pool):
        await pool.submit(job("a"))
        await pool.submit(job("b"))
        taken = [(await take(pool, "s0", again))[0][0] for again in range(MAX_DEATHS + 1)]
        _, outcome, _ = await pool.follow("a", MAX_DEATHS, WAIT)
        return taken, outcome

    taken, outcome = play(scene)
    assert taken == ["a"] * MAX_DEATHS + ["b"]
    assert outcome.state == "failed"
    assert "its worker died 3 times in a row after epoch 0" in outcome.reason


def test_a_job_that_had_to_leave_its_node_again_and_again_is_not_given_up():
    async def scene(pool):
        await pool.submit(job("a"))
        for number in range(2 * MAX_DEATHS):
            taken, _ = await take(pool, "s0", number, nodes=(f"n{number}",))
            await pool.follow_nodes({f"n{number + 1}"}, set(), {f"n{number}"})
        return taken

    assert play(scene) == ("a", 2 * MAX_DEATHS)


@pytest.mark.parametrize("slot_first", [True, False])
def test_nodes_that_die_under_a_job_are_not_its_fault_but_not_for_ever(slot_first):
    async def scene(pool):
        await pool.submit(job("a"))
        for number in range(MAX_LOSSES + 1):
            taken, _ = await take(pool, "s0", number, nodes=(f"n{number}",), wait_s=0.01)
            if taken is None:
                break
            if slot_first:  # its workers are missed before the node is
                await pool.slot_lost("s0")
            await pool.follow_nodes({f"n{number + 1}"}, {f"n{number}"}, set())
        return number, (await pool.follow("a", 0, WAIT))[1]

    number, outcome = play(scene)
    assert number == MAX_LOSSES
    assert outcome.state == "failed"
    assert "10 nodes died under it in a row after epoch 0" in outcome.reason


def test_a_job_that_gets_on_between_deaths_is_not_given_up():
    async def scene(pool):
        await pool.submit(job("a"))
        for number in range(1, 2 * MAX_DEATHS):
            taken, _ = await take(pool, "s0", number)
            await epoch(pool, "a", number, attempt=number)
        return taken

    assert play(scene) == ("a", 2 * MAX_DEATHS - 1)


def test_that_a_job_waits_is_told_and_is_no_progress():
    async def scene(pool):
        await pool.submit(job("a"))
        for number in range(1, MAX_DEATHS + 1):
            await take(pool, "s0", number)
            await pool.waits("a", number, "waits for another process to leave runs/a")
            await pool.waits("a", number - 1, "waits no longer")
        await take(pool, "s0", MAX_DEATHS + 1, wait_s=0.01)
        return await pool.follow("a", 0, WAIT)

    updates, outcome, _ = play(scene)
    words = [update.words for update in updates if update.stage == "waits"]
    assert words == ["waits for another process to leave runs/a"] * MAX_DEATHS
    assert outcome.state == "failed"


def test_closing_ends_every_wait():
    async def scene(pool):
        await pool.submit(job("a", rungs=(1,)))
        await take(pool, "s0")
        calls = (
            take(pool, "s1"),
            pool.follow("a", 2, WAIT),
            epoch(pool, "a", 1),
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
        await take(pool, "s0")
        await pool.finish("a", 1, Outcome("failed", "rank 1 ran out of memory"))
        await pool.finish("a", 1, Outcome("finished"))
        return (await pool.follow("a", 1, WAIT))[1].reason

    assert play(scene) == "rank 1 ran out of memory"
