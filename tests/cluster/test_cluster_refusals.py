"""Cluster files that could not work are refused before anything is touched, and only those."""

import re
import shutil
import subprocess

import pytest
from shipped_files import changed, refusal_of

from kdsweep.cluster.load import load_cluster
from kdsweep.cluster.ssh import Host

ADDRESS = "--address=$RAY_HEAD_IP:6379"
MLFLOW = "mlflow server --host 127.0.0.1 --port 5000"
RAY = "--port=6379 --dashboard-port=8265"
STORE = "--backend-store-uri sqlite:////shared/kdsweep/mlflow.db"
PG = "postgresql+psycopg://kd:pw-in-a-url@db/mlflow"


LAUNCHERS = [
    ("onprem", ADDRESS, "", "does not say where the head is: --address"),
    ("onprem", ADDRESS, "--head", "has --head, which is for the head alone"),
    ("onprem", ADDRESS, f"{ADDRESS} --port=6379", "has --port, which is for the head alone"),
    (
        "aws",
        ADDRESS,
        "--address=$RAY_HEAD_IP:6380",
        "port 6380, but the head starts with --port 6379",
    ),
    ("onprem", "--port=6379", "--port=7000", "port 6379, but the head starts with --port 7000"),
    ("onprem", ADDRESS, "--address=$RAY_HEAD_IP", "--address has no port: '$RAY_HEAD_IP'"),
    ("onprem", "--port=6379", "--port=a", "--port is no port between 1 and 65535: 'a'"),
    ("gcp", "--port=6379", "--port=0", "--port is no port between 1 and 65535: '0'"),
    ("local", "--port=6379", "--port=99999", "--port is no port between 1 and 65535: '99999'"),
    (
        "local",
        MLFLOW,
        f"{MLFLOW[:-4]}5001",
        "MLflow on port 5001, but MLFLOW_TRACKING_URI names 5000",
    ),
    ("onprem", "--port 5000", "-p5001", "MLflow on port 5001, but MLFLOW_TRACKING_URI names 5000"),
    ("onprem", "http://127.0.0.1:5000", "http://127.0.0.1", "but MLFLOW_TRACKING_URI names 80"),
    ("onprem", "port=8265", "port=5000", "gives MLflow port 5000, which the dashboard has"),
    ("local", "--dashboard-port=8265", "--dashboard-port=6379", "6379, which Ray itself has"),
    ("onprem", RAY, f"{RAY} --include-dashboard=false", "starts Ray without its dashboard"),
    ("local", RAY, f"{RAY} --include-dashboard No", "starts Ray without its dashboard"),
    (
        "onprem",
        "setup_commands:",
        "file_mounts: {/d: /not/there}\nsetup_commands:",
        "no '/not/there'",
    ),
    (
        "aws",
        "max_workers: 8\nidle",
        "docker: {image: a, container_name: b}\nmax_workers: 8\nidle",
        "container, where `kdsweep down` could end none of it",
    ),
    ("onprem", "ssh_user: ubuntu", "ssh_user: -oProxyCommand=x", "would be an option of ssh"),
    ("onprem", "~/.ssh/id_ed25519", "-oProxyCommand=x", "would be an option of ssh"),
    (
        "onprem",
        "head_ip: 10.0.0.10",
        "head_ip: -oProxyCommand=x",
        "is no address: '-oProxyCommand=x'",
    ),
    ("gcp", "  project_id: my-project\n", "", "provider.project_id is missing"),
    ("gcp", "project_id: my-project", "project_id: null", "provider.project_id is missing"),
    ("gcp", "  region: europe-west4\n", "", "provider.region is missing"),
    ("gcp", "  availability_zone: europe-west4-a\n", "", "provider.availability_zone is missing"),
    ("aws", "  region: eu-central-1\n", "", "provider.region is missing"),
    ("onprem", STORE, f"--backend-store-uri {PG}", "PGPASSFILE=/shared/pgpass"),
    ("onprem", STORE, f"--backend-store-uri='{PG}'", "postgresql+psycopg://***@db/mlflow"),
    (
        "onprem",
        STORE,
        "--backend-store-uri 'mysql://db/m?user=a&password=pw-in-a-url'",
        "password=***",
    ),
]


KUBERAY = [
    (':5000"}', ':5001"}', "names port 5001, but Service kdsweep-mlflow has 5000"),
    (
        "//kdsweep-mlflow:5000",
        "//kdsweep-mlflow.default.svc",
        "port 80, but Service kdsweep-mlflow",
    ),
    ("minReplicas: 0", "minReplicas: 9", "minReplicas is 9, above maxReplicas: 8"),
    (
        'num-cpus: "0"',
        'num-cpus: "0"\n    resources: {CPU: "0"}',
        "has num-cpus, and the group has resources besides",
    ),
    ("rayStartParams: {}", "rayStartParams: {labels: a}", "Write labels beside rayStartParams"),
    ("- {name: shared, mountPath: /sh", "- {name: shard, mountPath: /sh", "Did you mean shared?"),
    ('rayVersion: "2.60.0"', 'rayVersion: "2.51.2"', "With tokens, KubeRay takes 2.52.0 or newer"),
    ('rayVersion: "2.60.0"', "rayVersion: nightly", "is no version: 'nightly'"),
    (STORE, f"--backend-store-uri {PG}", "from a Secret"),
]


@pytest.mark.parametrize(
    ("name", "old", "new", "told"), [*LAUNCHERS, *(("kuberay", *fault) for fault in KUBERAY)]
)
def test_a_file_that_cannot_work_is_refused_by_line(tmp_path, name, old, new, told):
    message = refusal_of(tmp_path, changed(name, old, new))
    assert told in message
    assert re.match(r"/c\.yaml:\d+: ", message), message
    assert len(message.splitlines()) == 2  # what to do
    assert "pw-in-a-url" not in message


WORKING = [
    ("local", "--port=6379", "--port=0"),
    ("onprem", "--port=6379", "--port=$PORT"),
    ("onprem", ADDRESS, "--address=$RAY_HEAD_IP:$PORT"),
    ("onprem", ADDRESS, "--address '${RAY_HEAD_IP}:6379' --num-gpus=1"),
    ("onprem", RAY, "--dashboard-port=8265"),
    ("onprem", RAY, f"{RAY} --include-dashboard=true"),
    ("onprem", "--port 5000", "-p 5000"),
    ("onprem", "--port 5000", ""),
    ("onprem", "http://127.0.0.1:5000", "http://mlflow.corp:80"),
    ("onprem", "[10.0.0.11, 10.0.0.12]", "[]"),
    ("onprem", "setup_commands:", "file_mounts: {/d: /}\nsetup_commands:"),
    ("onprem", "setup_commands:", "docker: {}\nsetup_commands:"),
    ("onprem", "  ssh_private_key: ~/.ssh/id_ed25519", "  # no key"),
    ("onprem", STORE, "--backend-store-uri postgresql://kd@db:5432/mlflow?a=b@c"),
    ("onprem", STORE, "--backend-store-uri postgresql://db:5432/mlflow?a=b@c"),
    ("kuberay", "//kdsweep-mlflow:5000", "//kdsweep-mlflow.default.svc.cluster.local:5000"),
    ("kuberay", "//kdsweep-mlflow:5000", "//kdsweep-mlflow.elsewhere:80"),
    ("kuberay", "      maxReplicas: 8\n", ""),
    ("kuberay", "replicas: 0", "replicas: 20"),  # the operator makes maxReplicas of it
    ("kuberay", "rayStartParams: {}", "rayStartParams: {}\n      resources: {CPU: '8'}"),
    ("kuberay", 'rayVersion: "2.60.0"', 'rayVersion: "2.52"'),
    ("kuberay", STORE, "--backend-store-uri 'postgresql://kd:$(PASSWORD)@db/mlflow'"),
    (
        "kuberay",
        "- {name: shared, mountPath: /shared}",
        "- {name: shared, mountPath: /shared}\n              - {name: ray-logs, mountPath: /logs}",
    ),
]


@pytest.mark.parametrize(("name", "old", "new"), WORKING)
def test_what_can_work_is_not_refused(tmp_path, name, old, new):
    path = tmp_path / "c.yaml"
    path.write_text(changed(name, old, new))
    assert load_cluster(path).home


def test_the_port_of_mlflow_may_stand_in_its_environment(tmp_path):
    path = tmp_path / "c.yaml"
    text = changed("onprem", "--port 5000", "").replace("nohup", "MLFLOW_PORT=5001 nohup", 1)
    path.write_text(text.replace("URI=http://127.0.0.1:5000", "URI=http://127.0.0.1:5001", 1))
    assert load_cluster(path).mlflow_port == 5001


@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed")
def test_nothing_of_a_host_or_a_script_is_an_option_of_ssh(tmp_path):
    """ssh itself says what it makes of the words."""
    host = Host("head.example.com", "me", None, None, tmp_path / "known")
    words = [*host.command(), "-G", *host.where(), "-oProxyCommand=b"]
    told = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    assert "user me\nhostname head.example.com\n" in told
    assert "proxycommand" not in told
    for old, new in (("head.example.com", "-oProxyCommand=c"), ("me", "-oProxyCommand=d")):
        other = [new if word == old else word for word in words]
        told = subprocess.run(other, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert "proxycommand" not in told.stdout
