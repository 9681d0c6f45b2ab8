"""The fields of a RayCluster, as KubeRay publishes them, apart from the pods.

Source: the published definition of ray.io/v1 RayCluster in ray-project/kuberay, newer than release
1.6: ray-operator/config/crd/bases/ray.io_rayclusters.yaml, read in the Python models that the
repository generates from it (clients/python-client, commit 39e3516), apis/ray/v1/
raycluster_types.go, and what the operator itself refuses (controllers/ray/utils/validation.go).
Differs from the source: pods, containers and Services are Kubernetes's own and open here, but for
what kdsweep reads of them; rayVersion is required, as the operator does where tokens are.
"""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_WHOLE: Schema = {"type": "integer"}
_COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_ANY: Schema = {"type": "object"}
_LIST: Schema = {"type": "array"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_LABELS: Schema = {"type": "object", "additionalProperties": _TEXT}


def _one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def _fields(properties: Mapping[str, Schema], *required: str, open_: bool = False) -> Schema:
    """A mapping; unless it is open, it has these keys and no others."""
    closed: Schema = {} if open_ else {"additionalProperties": False}
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        **closed,
    }


_AUTH = _fields(
    {"mode": _one_of("disabled", "token"), "secretName": _TEXT, "enableK8sTokenAuth": _FLAG}
)
_AUTOSCALER = _fields(
    {
        "version": _one_of("v1", "v2"),
        "idleTimeoutSeconds": _COUNT,
        "upscalingMode": _one_of("Default", "Aggressive", "Conservative"),
        "image": _TEXT,
        "imagePullPolicy": _TEXT,
        "command": _TEXTS,
        "args": _TEXTS,
        "env": _LIST,
        "envFrom": _LIST,
        "resources": _ANY,
        "securityContext": _ANY,
        "volumeMounts": _LIST,
    }
)
_GCS = _fields(
    {
        "backend": _one_of("redis", "rocksdb"),
        "redisAddress": _TEXT,
        "redisUsername": _ANY,
        "redisPassword": _ANY,
        "externalStorageNamespace": _TEXT,
        "storage": _ANY,
    }
)
_NETWORK = _fields(
    {
        "mode": _one_of("DenyAll", "DenyAllIngress", "DenyAllEgress"),
        "head": _ANY,
        "worker": _ANY,
        "workerGroups": _LIST,
    }
)
_INGRESS = _fields(
    {
        "host": _TEXT,
        "path": _TEXT,
        "pathType": _one_of("Exact", "Prefix", "ImplementationSpecific"),
        "tls": _LIST,
    }
)
_CONTAINER = _fields(
    {
        "name": _TEXT,
        "env": {
            "type": "array",
            "items": _fields({"name": _TEXT, "value": _TEXT}, "name", open_=True),
        },
        "volumeMounts": {
            "type": "array",
            "items": _fields({"name": _TEXT, "mountPath": _TEXT}, "name", "mountPath", open_=True),
        },
    },
    "name",
    open_=True,
)
_POD = _fields(
    {"containers": {"type": "array", "items": _CONTAINER, "minItems": 1}}, "containers", open_=True
)
_GROUP: dict[str, Schema] = {
    "template": _fields({"metadata": _ANY, "spec": _POD}, "spec"),
    "rayStartParams": _ANY,  # of texts; kdsweep says in its own words what is wrong with others
    "resources": _LABELS,
    "labels": _LABELS,
}
_HEAD = _fields(
    {
        **_GROUP,
        "serviceType": _TEXT,
        "headService": _ANY,
        "enableIngress": _FLAG,
        "ingressOptions": _INGRESS,
    },
    "template",
)
_WORKERS = _fields(
    {
        **_GROUP,
        "groupName": _TEXT,
        "replicas": _COUNT,
        "minReplicas": _COUNT,
        "maxReplicas": _COUNT,
        "numOfHosts": _COUNT,
        "idleTimeoutSeconds": _COUNT,
        "priority": _WHOLE,
        "suspend": _FLAG,
        "scaleStrategy": _fields({"workersToDelete": _TEXTS}),
    },
    "groupName",
    "template",
)
_SPEC = _fields(
    {
        "rayVersion": _TEXT,
        "authOptions": _AUTH,
        "enableInTreeAutoscaling": _FLAG,
        "autoscalerOptions": _AUTOSCALER,
        "headGroupSpec": _HEAD,
        "workerGroupSpecs": {"type": "array", "items": _WORKERS},
        "headServiceAnnotations": _LABELS,
        "gcsFaultToleranceOptions": _GCS,
        "networkPolicy": _NETWORK,
        "historyServerOptions": _fields({"collectorOptions": _ANY}),
        "tlsOptions": _fields({"enabled": _FLAG}),
        "upgradeStrategy": _fields({"type": _one_of("Recreate", "None")}),
        "managedBy": _one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
        "suspend": _FLAG,
    },
    "headGroupSpec",
    # The operator refuses tokens without it, and says so in an event only.
    "rayVersion",
)
RAY_CLUSTER = _fields(
    {
        "apiVersion": _one_of("ray.io/v1"),
        "kind": _one_of("RayCluster"),
        "metadata": _fields(
            {"name": _TEXT, "namespace": _TEXT, "labels": _LABELS, "annotations": _LABELS},
            "name",
            open_=True,
        ),
        "spec": _SPEC,
        "status": _ANY,
    },
    *("apiVersion", "kind", "metadata", "spec"),
)
"""JSON Schema, draft 7, of a RayCluster document."""
