"""What `kdsweep run` shows of a run, in this process."""

import pytest

from kdsweep.cli.sweeps import _line
from kdsweep.engine.report import Progress


@pytest.mark.parametrize("stages", [{}, {"seconds/forward": 3.0, "seconds/backward": 4.0}])
def test_the_time_that_is_left_is_that_of_whole_epochs_and_counts_no_stage_twice(stages):
    progress = Progress("train", 2, 6, {"loss/total": 1.5, **stages, "seconds/total": 10.0})
    assert _line(progress, 25.0) == "train 2/6  loss 1.5000  elapsed 25 s, about 40 s left"
