"""The view of a sweep in MLflow's own pages: which columns, sorted how, and which charts.

MLflow keeps such a view as a tag of the experiment (its "share view" feature), as JSON; an address
that names the view opens the runs with it. Verified with MLflow 3.17; a version that reads the tag
in another way shows its ordinary table.
"""

import json
from typing import Any

from kdsweep.tracking.base import SweepInfo

VIEW = "kdsweep"
TAG = f"mlflow.sharedViewState.{VIEW}"
_MAX_PARAMS = 8
_MAX_RUNS = 1000


def path(experiment: str) -> str:
    """Address of a sweep's charts and runs, relative to the address of MLflow's pages."""
    query = f"viewStateShareKey={VIEW}&workflowType=machine_learning&compareRunsMode=CHART"
    return f"#/experiments/{experiment}/runs?{query}"


def state(info: SweepInfo) -> str:
    """The view's state: objectives, sizes and sampled parameters; the trade-off as charts."""
    objectives: dict[str, str] = info.spec.get("objectives") or {}
    constraints = info.spec.get("constraints") or {}
    metrics = list(dict.fromkeys([*objectives, "params_ratio", *constraints]))
    params = list(info.spec.get("space") or {})[:_MAX_PARAMS]
    columns = [
        "attributes.`Duration`",
        *(f"metrics.`{name}`" for name in metrics),
        *(f"params.`{name}`" for name in params),
        "tags.`kdsweep.kind`",
        "tags.`kdsweep.state`",
    ]
    view: dict[str, Any] = {"selectedColumns": columns, "runsHiddenMode": "SHOW_ALL"}
    if objectives:
        first, direction = next(iter(objectives.items()))
        view |= {"orderByKey": f"metrics.`{first}`", "orderByAsc": direction == "min"}
        view |= _charts(first, params)
    return json.dumps(view)


def _charts(metric: str, params: list[str]) -> dict[str, Any]:
    section = {"uuid": VIEW, "name": "Trade-off", "display": True, "isReordered": True}
    common = {"metricSectionId": VIEW, "isGenerated": False, "runsCountToCompare": _MAX_RUNS}
    charts: list[dict[str, Any]] = [
        {
            "type": "SCATTER",
            "xaxis": {"key": "params_ratio", "type": "METRIC"},
            "yaxis": {"key": metric, "type": "METRIC"},
        },
        {
            "type": "LINE",
            "metricKey": metric,
            "selectedMetricKeys": [metric],
            "xAxisKey": "step",
            "lineSmoothness": 0,
        },
    ]
    if params:
        charts.append(
            {
                "type": "PARALLEL",
                "selectedParams": params,
                "selectedMetrics": [metric],
                "showAllRuns": False,
            }
        )
    return {
        "isAccordionReordered": True,  # else MLflow puts its own sections first
        "compareRunSections": [{**section, "isGenerated": False, "deleted": False}],
        "compareRunCharts": [
            {**common, "deleted": False, "uuid": f"{VIEW}-{index}", **chart}
            for index, chart in enumerate(charts)
        ],
    }
