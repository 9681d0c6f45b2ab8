"""What is said where no cluster can be joined, as far as none has to run for it."""

import socket

import pytest

from kdsweep import environment
from kdsweep.errors import ResourceError
from kdsweep.sweep.joining import join

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray warns of its own deprecations


def test_an_address_where_nobody_listens_is_named_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ResourceError) as caught:
        join(f"127.0.0.1:{port}")
    said = str(caught.value)
    assert said.startswith(f"no Ray cluster answers at 127.0.0.1:{port}:") and "6379" in said


@pytest.mark.parametrize("address", ["head", "http://10.0.0.1:8265", "ray://10.0.0.1:10001", ":6"])
def test_what_is_no_address_is_answered_with_valid_ones(address):
    with pytest.raises(ResourceError, match=r"auto, or host:port of its head, such as"):
        join(address)


def test_auto_where_no_ray_runs_is_explained(monkeypatch):
    """Others may run Ray on this machine, so that Ray's own search for it is replaced."""
    monkeypatch.setattr("ray._private.services.canonicalize_bootstrap_address", lambda _: None)
    with pytest.raises(ResourceError, match="no Ray runs on this machine that --address auto"):
        join("auto")


def test_what_is_sent_to_a_cluster_holds_no_secret():
    assert environment.RAY.keys() == {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S",
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S",
        "RAY_CHDIR_TO_TRIAL_DIR",
        "RAY_TRAIN_METRICS_ENABLED",
        "RAY_USAGE_STATS_ENABLED",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS",
        "TUNE_GLOBAL_CHECKPOINT_S",
        "TUNE_DISABLE_SIGINT_HANDLER",
        "RAY_AIR_NEW_OUTPUT",
    }
