"""Cluster files against the schemas of those who read them: Kubernetes and Amazon's EC2.

Ray's own schema of launcher files ships with Ray: `load_cluster` asks it, for users too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"


MANIFESTS = (CLUSTER / "kuberay.yaml").read_text()


def kubernetes_objects(text: str = MANIFESTS) -> Iterator[dict[str, Any]]:
    """What kuberay.yaml gives to Kubernetes; in place of the RayCluster, the pods within it."""
    for document in yaml.safe_load_all(text):
        if document["kind"] != "RayCluster":
            yield document
            continue
        spec = document["spec"]
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            name = {"name": group.get("groupName", "head")}
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": name, **group["template"]}


def test_kubernetes_old_and_new_knows_every_field_of_the_manifests():
    checker = pytest.importorskip("kubernetes_validate")
    oldest, *_, newest = checker.utils.all_versions()
    kinds = []
    for thing in kubernetes_objects():
        for version in (oldest, newest):
            checker.validate(thing, version, strict=True)
        kinds.append(thing["kind"])
    assert kinds == ["Pod", "Pod", "PersistentVolumeClaim", "Service", "Deployment"]


def test_kubernetes_knows_the_secret_of_the_manifests_recipe_for_postgresql():
    checker = pytest.importorskip("kubernetes_validate")
    *_, deployment = kubernetes_objects(MANIFESTS.replace("# - {name: PGP", "- {name: PGP", 1))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["env"][0]["name"] == "PGPASSWORD"
    checker.validate(deployment, checker.latest_version(), strict=True)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("ports", "containerPorts", "'containerPorts' was unexpected"),
        ("image", "imgae", "'imgae' was unexpected"),
        ("name", "nmae", "'name' is a required property|'nmae' was unexpected"),
    ],
)
def test_a_misspelt_field_of_a_pod_is_no_field_of_kubernetes(old, new, told):
    checker = pytest.importorskip("kubernetes_validate")
    pod = next(kubernetes_objects())
    (container,) = pod["spec"]["containers"]
    container[new] = container.pop(old)
    with pytest.raises(checker.ValidationError, match=told):
        checker.validate(pod, checker.latest_version(), strict=True)


@pytest.fixture(scope="module")
def run_instances():
    """The parameters of EC2's RunInstances, which Ray calls with a node's config."""
    session = pytest.importorskip("botocore.session").Session()
    return session.get_service_model("ec2").operation_model("RunInstances").input_shape


def unknown(shape: Any, value: Any, where: str = "") -> Iterator[str]:
    """Keys that a structure does not have, and values that are none of its enumeration."""
    if shape.type_name == "structure":
        for key, inner in value.items():
            if key in shape.members:
                yield from unknown(shape.members[key], inner, f"{where}{key}.")
            else:
                yield where + key
    elif shape.type_name == "list":
        for inner in value:
            yield from unknown(shape.member, inner, where)
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{where}{value}"


def test_amazon_knows_every_field_of_the_nodes(run_instances):
    from botocore.validate import ParamValidator

    nodes = yaml.safe_load((CLUSTER / "aws.yaml").read_text())["available_node_types"]
    for node in nodes.values():
        asked = {**node["node_config"], "MinCount": 1, "MaxCount": 1}  # Ray adds these
        assert list(unknown(run_instances, asked)) == []
        assert ParamValidator().validate(asked, run_instances).generate_report() == ""


def test_a_misspelt_field_of_a_node_is_no_field_of_amazon(run_instances):
    for wrong in ({"InstanceTyp": "m7i.xlarge"}, {"InstanceType": "m7i.xlage"}):
        assert len(list(unknown(run_instances, wrong))) == 1


def test_googles_nodes_have_scheduling_as_a_mapping():
    # Examples of Ray give a list, which the Compute Engine API v1 does not define.
    nodes = yaml.safe_load((CLUSTER / "gcp.yaml").read_text())["available_node_types"]
    assert isinstance(nodes["gpu"]["node_config"]["scheduling"], dict)
