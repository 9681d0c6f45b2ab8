"""The contract of a model: one file, whose name is the model's key, with `Config` and `build`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from kdsweep.config import Config, Positive
from kdsweep.types import TapInfo, Taps


class ModelConfig(Config):
    """Base of a model's configuration."""

    width: Positive = 1.0
    """Channels relative to the published network (1.0)."""


class Model(nn.Module):
    """A network that exposes named taps.

    Every model file defines ``Config(ModelConfig)`` and ``build(config, model_input) -> Model``.

    Attributes:
        Config: The model's configuration class.
        config: What it was built from; set by `engine.load.build_model`.
    """

    Config: ClassVar[type[ModelConfig]]
    config: ModelConfig

    def taps(self) -> Mapping[str, TapInfo]:
        """The taps that `forward` gives, by name."""
        raise NotImplementedError

    def forward(self, batch: Any) -> Taps:
        """Runs the network on a batch and returns every tap that `taps` promises."""
        raise NotImplementedError

    def load_pretrained(self) -> None:
        """Starts from weights trained elsewhere, where the configuration names any.

        Called once, before training; never for a network whose weights are loaded anyway (a given
        teacher, an exported student), which must not need that file.

        Raises:
            CheckpointError: The file is missing, damaged or of another network.
        """

    def macs(self, batch: Any) -> int:
        """Multiply-accumulate operations of one forward pass over a batch, counted from its data.

        Only products of weights and activations count (convolutions, linear layers). The network
        itself need not run, so that a configuration can be judged before it takes a GPU.
        """
        raise NotImplementedError
