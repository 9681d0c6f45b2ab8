"""Whether the Ray that kdsweep started is what listens on a head: asked before the token is sent.

On a machine that others use too, anybody can listen on a port that is free: before Ray is up, or
once it has ended. A token that is sent to whoever answers there is theirs.
"""

from typing import Literal

from kdsweep.cluster import daemons, listeners
from kdsweep.cluster.launcher import Launcher
from kdsweep.cluster.local import Here
from kdsweep.cluster.ssh import Host
from kdsweep.errors import ResourceError

State = Literal["ours", "ended", "unknown"]
"""Of Ray on the head; unknown where that cannot say, perhaps because it is too busy."""


def state_of(cluster: Launcher, host: Here | Host) -> State:
    """Whether the Ray of a cluster runs on its head, by the pid that kdsweep noted there.

    Raises:
        ResourceError: Somebody else listens on its dashboard's port.
    """
    # In a shell of its own, because it exits.
    alive = f"({daemons.alive(cluster.name, 'ray')}) >/dev/null 2>&1; c=$?"
    ran = host.run(f"{alive}; {listeners.script(cluster.dashboard_port)}; exit $c")
    found = listeners.read(ran.output)
    if ran.code == daemons.ENDED and found and found.users:
        raise _stranger(cluster, host, "no Ray that kdsweep started for this cluster runs there")
    if found and found.others:
        raise _stranger(cluster, host, "it is another user's")
    if ran.code == daemons.ENDED:
        return "ended"
    return "ours" if ran.code == 0 else "unknown"


def _stranger(cluster: Launcher, host: Here | Host, why: str) -> ResourceError:
    return ResourceError(
        f"something else listens on port {cluster.dashboard_port} of {host.name}: {why}. It has "
        f"not been sent the cluster's token. End it, or give cluster {cluster.name!r} ports of its "
        f"own in {cluster.path}: --port, --dashboard-port."
    )
