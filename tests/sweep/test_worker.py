"""What a slot's workers do where one of them is gone, and what they say of an error."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from kdsweep.errors import SupersededError
from kdsweep.sweep.jobs import Job
from kdsweep.sweep.worker import SlotConfig, _ended_by, _run, is_lost_peer

PEER = """
import os, sys
from datetime import timedelta
import torch.distributed as dist
from kdsweep.sweep.worker import is_lost_peer

rank, store = int(sys.argv[1]), dist.FileStore(sys.argv[2], 2)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
dist.barrier()
if rank == 1:
    os._exit(0)
try:
    while True:
        dist.broadcast_object_list([True], src=0)
        dist.barrier()
except Exception as error:
    print(is_lost_peer(error), type(error).__name__)
"""


def test_a_worker_whose_peer_has_died_knows_it(tmp_path):
    words = [sys.executable, "-c", PEER]
    both = [
        subprocess.Popen([*words, rank, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    told, _ = both[0].communicate(timeout=120)
    both[1].communicate(timeout=120)
    assert told.startswith("True ")


@pytest.mark.parametrize("error", [KeyError("a"), RuntimeError("CUDA error"), MemoryError()])
def test_other_errors_are_the_worker_s_own(error):
    assert not is_lost_peer(error)


def test_an_error_that_follows_from_a_lost_peer_is_one():
    try:
        try:
            raise RuntimeError("[/gloo/transport/tcp/pair.cc:547] Connection closed by peer")
        except RuntimeError as first:
            raise ValueError("while reducing gradients") from first
    except ValueError as error:
        assert is_lost_peer(error)


def test_an_unexpected_error_is_told_where_its_trace_cannot_be_written(tmp_path):
    (tmp_path / "error.txt").symlink_to("/dev/full")
    outcome = _ended_by(KeyError("lambda2"), 3, tmp_path)
    assert (outcome.state, outcome.epoch) == ("failed", 3)
    assert outcome.reason == "KeyError after epoch 3: 'lambda2'"
    assert "KeyError: 'lambda2'" in outcome.trace


def test_storage_that_one_node_cannot_use_stops_the_sweep_and_fails_no_trial(tmp_path):
    """As where the storage's library or the credentials are missing: the next would fail, too."""
    job = Job("t001", {}, str(tmp_path), str(tmp_path / "run"), storage="nowhere://bucket")
    alone = SimpleNamespace(first=True, world=1, share=lambda value: value)
    outcome = _run(job, SlotConfig("slot-0", pool=None), alone)
    assert outcome.state == "lost"
    assert outcome.reason.startswith("home nowhere://bucket is no place to store in")


def test_a_run_whose_folder_another_process_has_or_nobody_sees_any_more_fails_no_trial():
    outcome = _ended_by(SupersededError("runs/t001 is another process's now"), 3, None)
    assert (outcome.state, outcome.epoch) == ("lost", 3)
