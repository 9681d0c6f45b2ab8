"""A small convolutional network for images of about 8 to 32 pixels, such as scanned digits.

Not a published network: three stages of 3x3 convolutions with batch normalisation, in the manner of
VGG (Simonyan and Zisserman, ICLR 2015), small enough to train on a CPU within seconds.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from kdsweep.models._embedding import EmbeddingHead, need_images
from kdsweep.models._macs import dense_macs
from kdsweep.models.base import Model, ModelConfig
from kdsweep.types import ImageBatch, ModelInput, TapInfo, Taps

_CHANNELS = (32, 64, 128)


class Config(ModelConfig):
    """Size of the network; its stages have 32, 64 and 128 channels at width 1.0."""

    convs_per_stage: Annotated[int, Field(ge=1, le=8)] = 2
    """3x3 convolutions of each stage."""
    embedding_dim: Annotated[int, Field(ge=0, le=65536)] = 64
    """Size of the linear embedding after the average pooling; 0 = the pooled feature itself."""
    l2_norm: bool = False
    """Bring embeddings to unit length."""

    def channels(self, published: int) -> int:
        """Channels of a stage, given those at width 1.0; at least 1."""
        return max(1, round(published * self.width))


class SmallCNN(Model):
    """Images to feature maps, a pooled feature, an embedding, and logits where there are classes.

    Taps:
        layer1, layer2, layer3: Output of each stage, at 1, 1/2 and 1/4 of the image's side
            (rounded up), after the activation.
        pooled, embedding, logits: See `EmbeddingHead`.
    """

    Config: ClassVar[type[ModelConfig]] = Config

    def __init__(
        self, stages: Sequence[nn.Module], channels: list[int], head: EmbeddingHead
    ) -> None:
        super().__init__()
        self.channels = channels
        self.stages = nn.ModuleList(stages)
        # Rounded up, so that images of any size have a last feature map.
        self.downsample = nn.MaxPool2d(2, ceil_mode=True)
        self.head = head

    def taps(self) -> Mapping[str, TapInfo]:
        """The taps that `forward` gives, by name."""
        axes = ("batch", "channels", "height", "width")
        maps = {f"layer{i}": TapInfo(axes, size) for i, size in enumerate(self.channels, start=1)}
        return maps | self.head.taps()

    def forward(self, batch: ImageBatch) -> Taps:
        """Runs the network on a batch and returns every tap that `taps` promises."""
        if len(batch.images) == 0:  # batch normalisation has no statistics of nothing
            return {
                name: batch.images.new_zeros(0, tap.channels, *(1,) * (len(tap.axes) - 2))
                for name, tap in self.taps().items()
            }
        maps = self._maps(batch.images)
        return {**maps, **self.head(maps[f"layer{len(self.stages)}"])}

    def _maps(self, images: Float[Tensor, "batch channels height width"]) -> dict[str, Tensor]:
        x, maps = images, {}
        for number, stage in enumerate(self.stages, start=1):
            x = maps[f"layer{number}"] = stage(x if number == 1 else self.downsample(x))
        return maps

    def macs(self, batch: ImageBatch) -> int:
        """Multiply-accumulate operations of one forward pass, from the size of the images."""
        return dense_macs(self, batch)


def _stage(inputs: int, channels: int, num_convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(num_convs):
        first = inputs if index == 0 else channels
        layers += [
            nn.Conv2d(first, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def build(config: Config, model_input: ModelInput) -> SmallCNN:
    """Builds the network; weights are drawn from torch's default generator.

    Raises:
        SpecError: The task gives no images.
    """
    image_channels = need_images("small_cnn", model_input)
    channels = [config.channels(published) for published in _CHANNELS]
    inputs = [image_channels, *channels[:-1]]
    stages = [_stage(*size, config.convs_per_stage) for size in zip(inputs, channels, strict=True)]
    head = EmbeddingHead(
        channels[-1],
        embedding_dim=config.embedding_dim,
        l2_norm=config.l2_norm,
        num_classes=model_input.num_classes,
    )
    return SmallCNN(stages, channels, head)
