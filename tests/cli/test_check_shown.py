"""What `kdsweep check` shows of a sweep, in this process."""

import io
from pathlib import Path

from rich.console import Console

from kdsweep.cli.dry_run import dry_run
from kdsweep.spec.load import load_sweep

DIGITS = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"


def test_the_macs_of_a_small_student_are_told_in_a_unit_that_fits(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    console.print(dry_run(load_sweep(DIGITS), tmp_path).shown)
    text = console.file.getvalue()
    assert "0.000 G" not in text
    assert any(cell.endswith("k") for cell in text.split()), text
