"""The command line: parses, calls the packages below, prints. Heavy imports wait for a command."""

import os
import sys

from kdsweep.errors import KdsweepError, SpecError


def main() -> None:
    """Runs the command line; what a user can cause ends in one clear message, never a traceback."""
    from kdsweep.cli import sweeps, cluster, results, data  # isort: skip  # the order of the help
    from kdsweep.cli.app import app

    assert sweeps and cluster and results and data  # importing them registers their commands
    try:
        _refuse_empty(sys.argv)
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
        words = error.strerror or error
        if isinstance(error, FileExistsError):  # where a folder is to be made
            words = "is a file, where a folder is needed"
        print(f"kdsweep: {where}{words}", file=sys.stderr)
        raise SystemExit(2) from None


def _refuse_empty(words: list[str]) -> None:
    """Ends here if an argument is empty: as a path it would be the working folder.

    Raises:
        SpecError: One is; the message says after which.
    """
    if "" in words[1:]:
        before = words[words.index("", 1) - 1]
        raise SpecError(
            f"the argument after {before!r} is empty. Is a variable of the shell not set? Leave it "
            "out for its default, or write a value."
        )
