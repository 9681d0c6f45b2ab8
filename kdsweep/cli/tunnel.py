"""`kdsweep ui --cluster`: the MLflow of a cluster, brought to this machine."""

import time
from pathlib import Path

from kdsweep.cluster.launch import reach
from kdsweep.cluster.load import load_cluster
from kdsweep.errors import SpecError


def open_pages(file: Path) -> None:
    """Keeps a tunnel to a cluster's MLflow open until Ctrl-C.

    Raises:
        SpecError: The cluster file starts no MLflow.
        ResourceError: The cluster is not up, or cannot be reached.
    """
    cluster = load_cluster(file)
    with reach(cluster) as link:
        if link.mlflow_url is None:
            known = cluster.tracking_uri or "a database in the results folder"
            raise SpecError(
                f"{file}: starts no MLflow that a tunnel could lead to; results go to {known}."
            )
        print(f"MLflow: {link.mlflow_url}  (Ctrl-C ends the tunnel)")
        print(f"Python: kdsweep.open_sweep(NAME, tracking_uri={link.mlflow_url!r})", flush=True)
        while True:
            time.sleep(3600)
