"""Cluster files: the shipped ones, their kinds, and what is said of wrong ones."""

import re
from pathlib import Path

import pytest
import yaml
from shipped_files import changed, refusal_of, shipped

from kdsweep.cluster.kuberay import KubeRay
from kdsweep.cluster.launcher import Launcher
from kdsweep.cluster.load import load_cluster
from kdsweep.errors import SpecError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "cluster").glob("*.yaml"))
SHIPPED_KUBERAY = ROOT / "cluster" / "kuberay.yaml"
LAUNCHERS = [path for path in SHIPPED if path.stem != "kuberay"]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_is_valid_and_says_where_results_are(path):
    cluster = load_cluster(path)
    assert cluster.home
    assert cluster.home.endswith(("/kdsweep", "/kdsweep_runs"))
    assert cluster.tracking_uri.endswith(":5000")


def test_there_is_a_file_for_each_place():
    assert {path.stem for path in SHIPPED} == {"local", "onprem", "aws", "gcp", "kuberay"}


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_no_shipped_file_ends_the_ray_of_others(path):
    commands = yaml.safe_load(path.read_text())["head_start_ray_commands"]
    assert not [line for line in commands if "ray stop" in line]


@pytest.mark.parametrize("name", ["onprem.yaml", "aws.yaml", "gcp.yaml", "Dockerfile"])
def test_nodes_install_what_kdsweep_depends_on(name):
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [text.partition(";")[0].strip() for text in project["dependencies"]]
    asked = [text for text in asked if not text.startswith(("ray[", "spconv-cu126"))]
    installed = re.findall(r'"([^"\s]+)"', (ROOT / "cluster" / name).read_text())
    assert [text for text in asked if text not in installed] == []
    if name != "Dockerfile":  # there it is the image's own
        assert "ray[default,tune,train]==2.60.0" in installed


def test_the_kind_follows_from_what_a_file_holds_not_from_its_name(tmp_path):
    for source, kind in (("kuberay", KubeRay), ("local", Launcher), ("aws", Launcher)):
        path = tmp_path / "anything.yaml"
        path.write_text(shipped(source))
        assert isinstance(load_cluster(path), kind)
    path.write_text(shipped("local"))
    assert load_cluster(path).is_here
    path.write_text(shipped("onprem"))
    assert not load_cluster(path).is_here


def test_a_sweep_file_is_told_apart(tmp_path):
    message = refusal_of(tmp_path, (ROOT / "search_spaces" / "digits.yaml").read_text())
    assert "is a sweep file" in message
    assert "kdsweep launch /c.yaml --cluster" in message


def test_a_file_of_another_kind_is_told_what_would_be_right(tmp_path):
    message = refusal_of(tmp_path, "services: {}\nversion: 3\n")
    assert "services, version" in message
    assert "cluster_name and provider" in message
    assert "apiVersion and kind" in message


def test_hosts_may_have_the_min_workers_of_rays_own_examples(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(shipped("onprem") + "min_workers: 2\n")
    assert load_cluster(path).config["min_workers"] == 2
    message = refusal_of(tmp_path, shipped("onprem") + "min_workers: two\n")
    assert "min_workers" in message


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "onprem.yaml").write_text("")
    with pytest.raises(SpecError, match=r"onprm.yaml.*\n.*Did you mean onprem.yaml"):
        load_cluster(tmp_path / "onprm.yaml")


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("onprem", "setup_commands:", "setup_comands:", "Did you mean setup_commands?"),
        ("onprem", "  ssh_user:", "  ssh_usr:", "Did you mean ssh_user?"),
        (
            "onprem",
            "  worker_ips: [10.0.0.11, 10.0.0.12]",
            "  worker_ips: 10.0.0.11",
            "must be a list",
        ),
        ("onprem", "cluster_name: onprem", "cluster_name: ../up", "is no name"),
        ("onprem", "  head_ip: 10.0.0.10", "  head_ip: 127.0.0.1", "loopback"),
        ("aws", "    max_workers: 8\n", "    max_workers: many\n", "must be a whole number"),
        ("aws", "    min_workers: 0", "    min_workrs: 0", "Did you mean min_workers?"),
        ("kuberay", "kind: RayCluster", "kind: RayClutser", "Did you mean RayCluster?"),
        (
            "kuberay",
            "  enableInTreeAutoscaling:",
            "  enableInTreeAutoscale:",
            "Did you mean enableI",
        ),
        ("kuberay", '      num-cpus: "0"', "      num-cpus: 0", 'Write: num-cpus: "0"'),
        ("kuberay", "    - groupName: gpu", "    - groupNme: gpu", "Did you mean groupName?"),
        ("kuberay", "    version: v2", "    version: v3", "Valid: v1, v2."),
        (
            "kuberay",
            "    idleTimeoutSeconds: 600",
            "    idleTimeoutSecond: 600",
            "Did you mean idleT",
        ),
        ("kuberay", '  rayVersion: "2.60.0"', "  rayVersion: 2.60", "must be text, not 2.6"),
        ("kuberay", "      minReplicas: 0", "      minReplicas: -1", "less than the minimum of 0"),
        ("kuberay", "  name: kdsweep  ", "  name: kd_sweep ", "is no name for KubeRay"),
    ],
)
def test_a_fault_names_its_line_and_what_is_right(tmp_path, name, old, new, told):
    text = changed(name, old, new)
    message = refusal_of(tmp_path, text)
    assert told in message
    number = int(re.search(r"c\.yaml:(\d+)", message)[1])
    assert number == line_of(text, new)


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("onprem", "KDSWEEP_HOME=/shared/", "KDSWEEP_HOME=shared/", "no absolute path"),
        ("onprem", "KDSWEEP_HOME=", "KDSWEEP_HOM=", "set KDSWEEP_HOME"),
        ("onprem", "ray start --head", "ray start", "without --head"),
        ("onprem", "--dashboard-port=8265", "--dashboard-port=82650", "no port"),
        ("onprem", "--disable-usage-stats\n  # (", "--dashboard-port\n  # (", "no port"),
        ("onprem", "bin/ray start --head", "bin/ray stop --head", "ends every Ray"),
        ("onprem", "--address=$RAY_HEAD_IP:6379", "--address=x && echo up", "must be the last"),
        ("onprem", "http://127.0.0.1:5000", "sqlite:///runs.db", "is a relative path"),
        ("onprem", "nohup ~/kdsweep-venv/bin/mlflow server", "echo", "nothing starts MLflow there"),
        ("onprem", "http://127.0.0.1:5000", "http://[::1]:5x", "is no address"),
        ("kuberay", "http://kdsweep-mlflow:5000", "http://localhost:5000", "Name its Service"),
        ("kuberay", "authOptions: {mode: token}", "authOptions: {}", "mode: token"),
        ("kuberay", "value: /shared/kdsweep}", "value: kdsweep}", "absolute path"),
        ("kuberay", "value: /shared/kdsweep}", "value: /home/ray}", "mounts nothing"),
        ("kuberay", "restartPolicy: Never", "restartPolicy: Always", "must be Never"),
        ("kuberay", "kind: RayCluster", "kind: RayJob", "kdsweep submits the job itself"),
        ("kuberay", "apiVersion: ray.io/v1 ", "apiVersion: ray.io/v2 ", "Valid: ray.io/v1."),
        ("kuberay", "mode: token}", "mode: token, enableK8sTokenAuth: true}", "must not be true"),
        ("kuberay", "  rayVersion:", "  #", "rayVersion is missing"),
        ("aws", "head_node_type: head", "head_node_type: heed", "head_node_type"),
    ],
)
def test_what_kdsweep_relies_on_is_checked_before_anything_is_touched(
    tmp_path, name, old, new, told
):
    message = refusal_of(tmp_path, shipped(name).replace(old, new, 1))
    assert re.search(r"c\.yaml:\d+: ", message)
    assert told in message


@pytest.mark.parametrize(
    ("name", "home", "old", "uri"),
    [
        (
            "onprem",
            "KDSWEEP_HOME=/shared/kdsweep",
            "MLFLOW_TRACKING_URI=http://127.0.0.1:5000",
            "A=1",
        ),
        (
            "onprem",
            "KDSWEEP_HOME=/shared/kdsweep",
            "http://127.0.0.1:5000",
            "postgresql://u:pw-in-a-url@db/m",
        ),
        ("kuberay", "value: /shared/kdsweep}", "http://kdsweep-mlflow:5000", ""),
    ],
)
def test_remote_storage_as_the_home_needs_an_mlflow_server(tmp_path, name, home, old, uri):
    text = shipped(name)
    assert old in text
    stored = text.replace(home, home.replace("/shared", "s3://bucket"), 1)
    (tmp_path / "c.yaml").write_text(stored)
    assert load_cluster(tmp_path / "c.yaml").home == "s3://bucket/kdsweep"
    message = refusal_of(tmp_path, stored.replace(old, uri, 1))
    assert "home s3://bucket/kdsweep is remote storage" in message
    assert "Set MLFLOW_TRACKING_URI to an MLflow server" in message
    assert "pw-in-a-url" not in message


def test_each_missing_key_is_told_once(tmp_path):
    text = shipped("kuberay").replace("- groupName: gpu\n", "- priority: 1\n", 1)
    message = refusal_of(tmp_path, text.replace("      template:", "      labels:", 1))
    for key in ("groupName", "template"):
        assert message.count(f"spec.workerGroupSpecs.0.{key} is missing") == 1, message


def test_the_token_is_read_from_the_secret_that_the_file_names(tmp_path):
    path = tmp_path / "c.yaml"
    assert load_cluster(SHIPPED_KUBERAY).secret == "kdsweep"
    path.write_text(shipped("kuberay").replace("mode: token", "mode: token, secretName: mine"))
    assert load_cluster(path).secret == "mine"


def test_a_file_that_makes_its_namespace_is_not_rehearsed(tmp_path):
    path = tmp_path / "c.yaml"
    words = [" ".join(command) for command in load_cluster(SHIPPED_KUBERAY).start_commands()]
    assert words[0] == f"kubectl --namespace default apply -f {SHIPPED_KUBERAY} --dry-run=server"
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n---\n"
    path.write_text(namespace + shipped("kuberay"))
    verbs = [command[3] for command in load_cluster(path).start_commands()]
    assert verbs == ["apply", "wait"]


def test_all_faults_are_told_at_once(tmp_path):
    text = shipped("onprem").replace("setup_commands:", "setup_comands:", 1)
    message = refusal_of(tmp_path, text.replace("ssh_user:", "ssh_usr:", 1))
    assert message.startswith("2 faults in /c.yaml\n")


def test_kuberay_finds_the_mlflow_that_its_head_reports_to(tmp_path):
    assert load_cluster(SHIPPED_KUBERAY).mlflow == ("kdsweep-mlflow", 5000)
    path = tmp_path / "c.yaml"
    path.write_text(shipped("kuberay").replace("//kdsweep-mlflow:5000", "//mlflow.corp:5000"))
    assert load_cluster(path).mlflow is None


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "onprem",
            "  type: local",
            "  type: lokal",
            r"type is 'lokal'\n  Did you mean local",
        ),
        ("onprem", "[10.0.0.11, 10.0.0.12]", "[10, null]", r"worker_ips.0 is no address: 10"),
        ("onprem", "[10.0.0.11, 10.0.0.12]", "['h:22']", r"no address: 'h:22'\n.*ssh/config"),
        ("onprem", "[10.0.0.11, 10.0.0.12]", "['me@h']", r"worker_ips.0 is no address: 'me@h'"),
        ("onprem", "[10.0.0.11, 10.0.0.12]", "['-oX=y']", r"worker_ips.0 is no address: '-oX=y'"),
        ("onprem", "[10.0.0.11, 10.0.0.12]", "['[::2]']", r"worker_ips.0 is no address"),
        ("onprem", "[10.0.0.11, 10.0.0.12]", "[h, h]", r"worker_ips.1 is there already: 'h'"),
        ("onprem", "[10.0.0.11, 10.0.0.12]", "[10.0.0.10]", r"worker_ips.0 is the head's own"),
        ("onprem", "[10.0.0.11, 10.0.0.12]", "[127.0.0.2]", r"worker_ips.0 is a loopback"),
        ("onprem", "head_ip: 10.0.0.10", "head_ip: 0.0.0.0", r"head_ip is a loopback"),
        ("onprem", "head_ip: 10.0.0.10", "head_ip: ''", r"head_ip is no address: ''"),
        ("onprem", "--port=6379", '--port="6379', r"is no shell command: no closing quotation"),
        (
            "kuberay",
            "rayStartParams: {}",
            "rayStartParams: [a]",
            r"must be a mapping \(key: value\)",
        ),
        ("kuberay", "namespace: default      ", "namespace: [a]      ", r"namespace must be text"),
        ("kuberay", ':5000"}', ':50x"}', r"MLFLOW_TRACKING_URI is no address"),
    ],
)
def test_values_of_the_wrong_kind_are_refused_by_line(tmp_path, name, old, new, message):
    text = shipped(name)
    assert old in text
    changed = text.replace(old, new, 1)
    found = refusal_of(tmp_path, changed)
    assert re.search(message, found), found
    assert re.search(r"/c.yaml:\d+: ", found)


def test_hosts_go_by_name_or_by_address_of_either_kind(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(shipped("onprem").replace("[10.0.0.11, 10.0.0.12]", "[gpu-1.lan, 'fd00::2']"))
    assert load_cluster(path).config["provider"]["worker_ips"] == ["gpu-1.lan", "fd00::2"]


def test_a_file_that_is_far_too_large_is_not_parsed(tmp_path):
    told = refusal_of(tmp_path, "k: [1, 2]\n" * 200_000)
    assert "c.yaml:1: holds 2,000,000 characters" in told


def test_names_of_services_that_are_no_text_are_no_services(tmp_path):
    path = tmp_path / "c.yaml"
    text = shipped("kuberay")
    path.write_text(re.sub(r"(kind: Service\nmetadata:) .*", r"\1 {name: [a]}", text))
    assert path.read_text() != text
    assert load_cluster(path).mlflow is None


@pytest.mark.parametrize("value", ["null", "[local]", "5"])
def test_a_provider_that_is_no_mapping_is_refused(tmp_path, value):
    text = re.sub(r"provider:\n(  .*\n)+", f"provider: {value}\n", shipped("onprem"), count=1)
    assert "provider must be a mapping (key: value)" in refusal_of(tmp_path, text)
