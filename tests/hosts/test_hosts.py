"""Sweeps from a laptop onto hosts reached by SSH, some of which are cut off in mid-trial."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ssh_cluster import DIGITS, QUICKSTART, Desk, Laptop, Watch, write_cluster
from virtual_hosts import Host, virtual_hosts
from whole_sweep_checks import check_whole

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(2400)]

_SMALL = ("run.train.epochs=16", "sweep.confirm.top=0", "sweep.budget.hours=2")


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """A folder that all hosts see."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory, shared) -> Iterator[dict[str, Host]]:
    names = ("alpha", "beta", "gamma", "desk")
    with virtual_hosts(names, tmp_path_factory.mktemp("hosts"), visible=[shared]) as made:
        yield dict(zip(names, made, strict=True))


@pytest.fixture(scope="module")
def laptop(tmp_path_factory) -> Laptop:
    return Laptop(tmp_path_factory.mktemp("laptop"))


@pytest.fixture(scope="module")
def cluster(hosts, shared, laptop) -> Iterator[Path]:
    """Alpha is the head, beta and gamma are its workers; the first launch starts it."""
    path = write_cluster(shared, hosts["alpha"], [hosts["beta"], hosts["gamma"]])
    yield path
    laptop.kdsweep("down", "--cluster", path)


@contextmanager
def cut_off(host: Host) -> Iterator[None]:
    host.cut_off()
    try:
        yield
    finally:
        host.reconnect()


def launch(machine: Laptop, file: Path, name: str, trials: int, cluster: Path) -> None:
    changes = (f"sweep.name={name}", f"sweep.trials={trials}", *(_SMALL if file == DIGITS else ()))
    machine.kdsweep("launch", file, *changes, "--cluster", cluster, "--detach")


def refuse_leftovers(hosts: dict[str, Host]) -> None:
    """Fails if a process of a cluster outlives it; SSH keeps a used line for ten seconds."""
    until = time.monotonic() + 30.0
    while left := {name: found for name, host in hosts.items() if (found := host.processes())}:
        assert time.monotonic() < until, left
        time.sleep(0.5)  # other processes are waited for


def test_a_sweep_ends_whole_on_the_hosts_that_are_left(hosts, shared, laptop, cluster, figures):
    watch = Watch(shared, "left")
    launch(laptop, QUICKSTART, "left", 8, cluster)
    trial, host = watch.wait_for("a trial in its middle", watch.in_the_middle)
    (other,) = {"beta", "gamma"} - {host}
    with cut_off(hosts[host]):
        cut_s = time.time()
        watch.wait_for("the trial moves", lambda: len(watch.hosts_of(trial)) > 1)
        moved_s = time.time() - cut_s
        said = laptop.kdsweep("logs", "left", "-f", "--cluster", cluster)
    assert "Job kdsweep-left finished." in said
    assert check_whole(watch.home, "left", 8).duplicates == 0
    assert watch.hosts_of(trial) == [host, other]
    assert watch.hosts_since(cut_s + moved_s) == {other}
    assert watch.repeated() in ({}, {trial: 1})
    figures.append(f"{watch.figures()}; a trial moved {moved_s:.0f} s after its host was cut off")


def test_a_host_that_was_cut_off_and_is_back_gets_trials(hosts, shared, laptop, cluster, figures):
    watch = Watch(shared, "back")
    launch(laptop, DIGITS, "back", 36, cluster)
    trial, host = watch.wait_for("a trial in its middle", watch.in_the_middle)
    with cut_off(hosts[host]):
        watch.wait_for("the trial moves", lambda: len(watch.hosts_of(trial)) > 1)
    back_s = time.time()
    watch.wait_for("a trial where the host is back", lambda: host in watch.hosts_since(back_s))
    joined_s = time.time() - back_s
    laptop.kdsweep("logs", "back", "-f", "--cluster", cluster)
    assert check_whole(watch.home, "back", 36).duplicates == 0
    assert watch.repeated() in ({}, {trial: 1})
    figures.append(f"{watch.figures()}; the host had a trial {joined_s:.0f} s after it was back")


def test_another_machine_stops_a_sweep_and_another_head_goes_on_with_it(
    hosts, shared, laptop, cluster, figures
):
    watch, desk = Watch(shared, "moved"), Desk(hosts["desk"])
    launch(laptop, DIGITS, "moved", 3, cluster)
    watch.wait_for("a trial in its middle", watch.in_the_middle)

    assert "running" in desk.kdsweep("status", "moved", "--cluster", cluster)
    assert "starts in slot-" in desk.kdsweep("logs", "moved", "--cluster", cluster)
    fetched, own = (
        home / ".kdsweep" / "clusters" / cluster.stem / "token"
        for home in (desk.host.folder / "root", laptop.home)
    )
    assert fetched.read_text() == own.read_text()
    assert fetched.stat().st_mode & 0o777 == 0o600
    assert "stopped" in desk.kdsweep("stop", "moved", "--cluster", cluster)
    assert watch.record.state == "interrupted"
    desk.kdsweep("down", "--cluster", cluster)
    refuse_leftovers(hosts)

    second = write_cluster(shared, hosts["gamma"], [hosts["beta"]])
    before_s = time.time()
    said = desk.kdsweep("resume", "moved", "--cluster", second)
    assert "finished." in said
    assert check_whole(watch.home, "moved", 3).duplicates == 0
    assert watch.hosts_since(before_s) == {"beta"}
    assert sum(watch.repeated().values()) <= 2
    desk.kdsweep("down", "--cluster", second)
    refuse_leftovers(hosts)
    figures.append(f"{watch.figures()}; stopped and resumed on another head")
