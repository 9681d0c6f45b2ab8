"""Every variable that kdsweep sends to a cluster, for whoever sends it and whoever shows it.

Everybody who may look at the cluster can read these variables: no secret is among them, and
nothing is copied from the environment of the machine that launches.
"""

JOB = {
    # Ray ends a job by SIGTERM and kills it 3 s later; a sweep needs a moment to stay resumable.
    "RAY_JOB_STOP_SIGNAL": "SIGINT",
    "RAY_JOB_STOP_WAIT_TIME_S": "60",
    "PYTHONUNBUFFERED": "1",
}
"""What the driver's job gets from the machine that launches."""

RAY = {
    # Ray Train looks after its workers this often; its default of 2 s adds seconds to every start.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # A worker answers while it trains. One that says nothing for so long is frozen (Ray Train's own
    # patience is ten minutes); reading a table of a gigabyte keeps it silent for half a minute.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "180",
    # Relative paths (a data root) mean the same in a worker as where the sweep was launched.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # One report without a metric must not end the sweep; the searcher checks what matters.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # The journal replaces Tune's own files and its way of stopping.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""What the driver gives to its processes on all nodes."""
