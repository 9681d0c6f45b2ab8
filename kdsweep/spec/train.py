"""How a network is trained: the `train` section of a run and of a teacher."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kdsweep.config import Config, Count, Fraction, NonNegative, Positive


class TrainConfig(Config):
    """Optimiser, schedule and length of one training; the defaults are Cylinder3D's published ones.

    Source: Zhu et al., CVPR 2021, released training configuration (Adam, 1e-3, batch 2, 40 epochs).
    """

    epochs: Count = 40
    """Passes over the training split."""

    batch_size: Count = 2
    """Samples of one forward pass, counted over all workers together."""

    accumulate: Count = 1
    """Forward passes per optimiser step: a step sees `batch_size` x `accumulate` samples."""

    optimizer: Literal["adam", "adamw"] = "adam"
    """Optimiser; `adamw` decouples the weight decay from the gradient."""

    lr: Positive = 1e-3
    """Learning rate after the warm-up."""

    weight_decay: NonNegative = 0.0
    """Weight decay of the optimiser."""

    schedule: Literal["constant", "cosine", "multistep"] = "constant"
    """Learning rate over the training: `cosine` ends at 0, `multistep` falls at `milestones`."""

    milestones: Annotated[tuple[Fraction, ...], Field(max_length=16)] = (0.75,)
    """Fractions of the training, rising, at which `multistep` divides the learning rate by 10."""

    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps over which the learning rate rises linearly from near 0."""

    clip_norm: NonNegative = 0.0
    """Largest L2 norm of the gradient; larger ones are scaled down. 0 = no clipping."""

    amp: Literal["off", "bfloat16"] = "off"
    """Mixed precision of the forward pass; losses are computed in float32 either way."""

    kd_warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs over which the method's weights rise linearly from 0 to their values."""

    views: Annotated[int, Field(ge=0)] = 0
    """Augmented views of a sample, repeated with this period in epochs, so that the teacher's
    answers can be cached. 0 = new augmentation in every epoch, nothing is cached."""

    val_every: Count = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""

    init: Literal["random", "sliced_teacher"] = "random"
    """The student's first weights: random, or the first channels of each layer of the teacher."""

    data_workers: Annotated[int, Field(ge=0)] = 0
    """Processes that prepare samples for each worker; 0 = the training process itself. Says how,
    not what: no part of a run's identity."""

    @model_validator(mode="after")
    def _milestones_rise(self) -> "TrainConfig":
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(
                f"milestones must rise, got {list(self.milestones)}: "
                f"write {sorted(set(self.milestones))}"
            )
        return self
