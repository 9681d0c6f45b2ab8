"""Synthetic LiDAR scans in the layout of SemanticKITTI: ray-cast streets with exact labels.

`write_semantickitti` is the whole interface; importing this package loads no ray caster.
"""

from kdsweep.data.synthetic.config import SynthConfig, config_digest
from kdsweep.data.synthetic.writer import write_semantickitti

__all__ = ["SynthConfig", "config_digest", "write_semantickitti"]
