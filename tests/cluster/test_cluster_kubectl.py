"""Clusters on Kubernetes by way of kubectl: the order of its calls, and what is said in a wait."""

import json
import os
import re
from pathlib import Path

import pytest
from kubernetes_answers import a_list, ended, event, pod, ready, scheduler_event, unscheduled
from processes import runs

from kdsweep.cluster import kubectl, notices
from kdsweep.cluster.jobs import ask
from kdsweep.cluster.load import load_cluster
from kdsweep.errors import ResourceError

KUBERAY = Path(__file__).parents[2] / "cluster" / "kuberay.yaml"
HEAD = "kdsweep-head-x7k2p"
REFUSED = (
    "The RayCluster spec is invalid default/kdsweep: worker group gpu has minReplicas 9 greater "
    "than maxReplicas 8"
)


def calls(folder: Path) -> list[str]:
    lines = (folder / "calls").read_text().splitlines()
    return [" ".join(word for word in json.loads(line) if word[0] != "-") for line in lines]


@pytest.fixture
def kubernetes(stand_in_kubectl, monkeypatch):
    """The folder of the stand-in, which is first on the path, and looked at without a pause."""
    monkeypatch.setenv("PATH", f"{stand_in_kubectl}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(kubectl, "_LOOK_S", 0.02)
    return stand_in_kubectl


def says(folder, *, waits=None, words="", **answers):
    """What the stand-in answers; it waits for ever, or until it was asked `waits` times."""
    for name, value in answers.items():
        (folder / name.replace("_", "-")).write_text(json.dumps(value))
    looks = 10**9 if waits is None else waits
    (folder / "waits").write_text(json.dumps({"looks": looks, "words": words}))


def start(said):
    with kubectl.running(load_cluster(KUBERAY), said.append) as link:
        return ask(link)


def invalid(count=1, **changes):
    return event("RayCluster", "kdsweep", "InvalidRayClusterSpec", REFUSED, count=count, **changes)


def test_kuberay_goes_through_kubectl_in_order_with_a_stand_in(kubernetes):
    cluster, said = load_cluster(KUBERAY), []
    with kubectl.joined(cluster) as link:
        assert link is None
    with kubectl.running(cluster, said.append) as link:
        assert ask(link) == "up"
        assert link.mlflow_url
    kubectl.end(cluster, said.append)
    order = calls(kubernetes)
    words = [line.removeprefix("default ").split(" ") for line in order]
    looks = {"pods", "events"}
    assert [verb for verb, what, *_ in words if what not in looks] == [
        *["get", "get", "get", "apply", "apply", "wait"],
        *["get", "get", "port-forward", "port-forward", "delete"],
    ]
    assert any("service/its-own-head-svc" in line for line in order)
    assert any("service/kdsweep-mlflow" in line for line in order)
    assert "right" not in "".join(said)
    assert said[-1].startswith("MLflow and the volume stay.")


def test_nothing_is_made_of_a_file_that_kubernetes_refuses(kubernetes):
    told = 'strict decoding error: unknown field "spec.template.spec.containers[0].containerPorts"'
    (kubernetes / "refusal").write_text(told)
    with pytest.raises(ResourceError, match="containerPorts"):
        start([])
    assert not (kubernetes / "state").exists()


def test_what_the_operator_refuses_ends_the_wait_at_once(kubernetes):
    says(kubernetes, events_then=a_list(invalid(count=3)))
    with pytest.raises(ResourceError) as refused:
        start([])
    text = str(refused.value)
    assert text.startswith("cluster 'kdsweep' cannot start. Kubernetes says of it:\n")
    assert f"  RayCluster kdsweep: InvalidRayClusterSpec: {REFUSED} (3 times)\n" in text
    assert f"change it, run `kdsweep down --cluster {KUBERAY}`" in text
    assert "To wait on" not in text
    note = kubernetes / "waiting"  # absent where kubectl was ended before it could say who waits
    waits = note.read_text() if note.exists() else ""
    assert not (waits and runs(int(waits)))  # kubectl does not go on waiting


def test_an_image_that_is_no_name_ends_the_wait_at_once(kubernetes):
    words = 'Failed to apply default image tag "kd sweep": couldn\'t parse image reference'
    says(kubernetes, pods=a_list(pod(HEAD, waiting=("InvalidImageName", words))))
    with pytest.raises(ResourceError, match=rf"Pod {HEAD}: InvalidImageName: Failed to apply"):
        start([])


def test_what_was_said_of_an_earlier_text_of_the_file_does_not_end_the_wait(kubernetes):
    said = []
    says(kubernetes, waits=2, events=a_list(invalid()))
    assert start(said) == "up"
    assert "InvalidRayClusterSpec" not in "".join(said)


def test_what_was_said_of_the_very_same_file_ends_the_wait(kubernetes):
    (kubernetes / "version").write_text("7")
    (kubernetes / "unchanged").touch()
    says(kubernetes, events=a_list(invalid()))
    with pytest.raises(ResourceError, match="minReplicas 9 greater than maxReplicas 8"):
        start([])


def test_what_was_said_before_the_operator_took_the_file_does_not_end_the_wait(kubernetes):
    """As after a launch that was refused, one of the mended file, interrupted, and another one."""
    (kubernetes / "version").write_text("7")
    (kubernetes / "unchanged").touch()
    (kubernetes / "status").write_text('{"observedGeneration":2}')
    says(kubernetes, waits=2, events=a_list(invalid()))
    assert start([]) == "up"


def test_what_is_said_again_of_a_changed_file_ends_the_wait(kubernetes):
    says(kubernetes, events=a_list(invalid(count=1)), events_then=a_list(invalid(count=2)))
    with pytest.raises(ResourceError, match=r"greater than maxReplicas 8 \(2 times\)"):
        start([])


def test_what_a_cluster_waited_for_is_told_where_the_wait_ends_in_vain(kubernetes):
    pull = 'Failed to pull image "registry.example.com/kdsweep:2.60.0": not found'
    claim = 'storageclass.storage.k8s.io "nfs" not found'
    says(
        kubernetes,
        waits=1,
        words="error: timed out waiting for the condition on rayclusters/kdsweep",
        pods=a_list(pod(HEAD, waiting=("ImagePullBackOff", "Back-off pulling image"))),
        events=a_list(
            event("Pod", HEAD, "Failed", pull, count=4, minute=9),
            event("PersistentVolumeClaim", "kdsweep-shared", "ProvisioningFailed", claim),
            event("Pod", "of-somebody-else", "Failed", "not ours"),
        ),
    )
    with pytest.raises(ResourceError) as failed:
        start([])
    assert str(failed.value).splitlines()[:-2] == [
        "cluster 'kdsweep' has not come up: error: timed out waiting for the condition on "
        "rayclusters/kdsweep. Kubernetes says of it:",
        f"  PersistentVolumeClaim kdsweep-shared: ProvisioningFailed: {claim}",
        "    Check the volume's claim and its storage class: kubectl describe pvc",
        f"  Pod {HEAD}: Failed: {pull} (4 times)",
        f"  Pod {HEAD}: ImagePullBackOff: Back-off pulling image",
        "    Check the image's name, and that nodes may pull it (imagePullSecrets).",
    ]
    assert "\nTo wait on, launch again.\n" in str(failed.value)


def test_where_kubernetes_says_nothing_the_operator_is_asked_after(kubernetes):
    says(kubernetes, waits=1, words="error: timed out waiting for the condition")
    with pytest.raises(ResourceError, match=r"  nothing\. Does the KubeRay operator run"):
        start([])


def test_whoever_waits_hears_what_for_and_how_long(kubernetes, monkeypatch):
    monkeypatch.setattr(kubectl, "_TELL_S", 0.0)
    said = []
    words = "0/3 nodes are available: 3 Insufficient cpu."
    says(
        kubernetes,
        waits=3,
        pods=a_list(unscheduled(HEAD, words)),
        events=a_list(scheduler_event(HEAD, words, count=5)),
    )
    assert start(said) == "up"
    lines = [line for line in said if re.match(r"  \d+ s: ", line)]
    assert [re.sub(r"\d+ s", "N s", line, count=1) for line in lines[:3]] == [
        f"  N s: Pod {HEAD}: FailedScheduling: {words} (5 times)",
        f"  N s: Pod {HEAD}: Unschedulable: {words}",
        f"  N s: Pod {HEAD}: Unschedulable: {words}",  # nothing new: what it still waits for
    ]


def test_a_user_who_may_not_read_events_still_starts_a_cluster(kubernetes):
    said = []
    (kubernetes / "forbidden").write_text('events is forbidden: User "me" cannot list resource')
    says(kubernetes, waits=2)
    assert start(said) == "up"
    assert sum('User "me" cannot list resource' in line for line in said) == 1


def test_the_same_trouble_of_many_pods_is_told_once():
    words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    names = [f"kdsweep-gpu-worker-{letter}" for letter in "abc"]
    pods = a_list(*(unscheduled(name, words) for name in names))
    events = a_list(*(scheduler_event(name, words, count=2, minute=4) for name in names))
    found = notices.warnings(events, "kdsweep", pods)
    assert list(notices.lines(found)) == [
        f"  Pod {names[0]} (and 2 more): FailedScheduling: {words} (6 times)",
        "    No node takes it: ask for less in resources, check nodeSelector and taints, or add "
        "nodes.",
    ]
    assert len(list(notices.lines([*found, *notices.states(pods)]))) == 4


def test_the_last_of_many_warnings_are_told():
    pods = a_list(pod(HEAD))
    events = [event("Pod", HEAD, "Unhealthy", f"probe {n}", minute=n) for n in range(20)]
    told = list(notices.lines(notices.warnings(a_list(*reversed(events)), "kdsweep", pods)))
    assert told == [f"  Pod {HEAD}: Unhealthy: probe {n}" for n in range(14, 20)]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (pod(HEAD, waiting=("ContainerCreating", "")), "ContainerCreating"),
        (ended(HEAD, "OOMKilled", 137), "OOMKilled: ray-head ended with exit code 137."),
        (unscheduled(HEAD, "0/3 nodes"), "Unschedulable: 0/3 nodes"),
        (pod(HEAD), "Pending"),
        (ready(HEAD), None),
    ],
)
def test_a_pod_says_why_it_waits(found, told):
    lines = [notices.line([state]) for state in notices.states(a_list(found))]
    assert lines == ([f"Pod {HEAD}: {told}"] if told else [])


def test_no_secret_is_told():
    words = 'exec: "bash -c MLFLOW_TRACKING_PASSWORD=pw-in-the-file mlflow": not found'
    pods = a_list(pod(HEAD, waiting=("RunContainerError", words)))
    assert "pw-in-the-file" not in "".join(notices.lines(notices.states(pods)))


@pytest.mark.parametrize(
    "answer",
    [
        invalid(),
        scheduler_event(HEAD, "0/3 nodes", count=5),
        pod(HEAD, waiting=("ImagePullBackOff", "Back-off pulling image")),
        ended(HEAD, "OOMKilled", 137),
        unscheduled(HEAD, "0/3 nodes"),
        ready(HEAD),
    ],
)
def test_kubernetes_knows_every_field_of_the_answers_of_the_stand_in(answer):
    checker = pytest.importorskip("kubernetes_validate")
    checker.validate(answer, checker.latest_version(), strict=True)
