"""`python -m kdsweep`: the command line where no script is on the path: a job on a cluster."""

from kdsweep.cli import main

main()
