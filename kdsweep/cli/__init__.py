"""The command line: parses, calls the packages below, prints. Heavy imports wait for a command."""

import os
import sys

from kdsweep.errors import KdsweepError


def main() -> None:
    """Runs the command line; what a user can cause ends in one clear message, never a traceback."""
    from kdsweep.cli import sweeps, cluster, results, data  # isort: skip  # the order of the help
    from kdsweep.cli.app import app

    assert sweeps and cluster and results and data  # importing them registers their commands
    try:
        app()
    except KdsweepError as error:
        print(f"kdsweep: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader (such as `head`) has gone: nothing more to say, and nothing to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"kdsweep: {where}{error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
