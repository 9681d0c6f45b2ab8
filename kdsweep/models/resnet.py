"""ResNet-18, 34 and 50 with an embedding, for metric learning and image classification.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385,
table 1; names of the weights and the place of the stride (the 3x3 convolution of a bottleneck) as
in torchvision, so that its ImageNet weights load. The embedding is that of lenscloth/RKD.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdsweep.models._embedding import EmbeddingHead, need_images
from kdsweep.models._macs import dense_macs
from kdsweep.models._pretrained import PretrainedPath, load_pretrained
from kdsweep.models.base import Model, ModelConfig
from kdsweep.types import ImageBatch, ModelInput, TapInfo, Taps

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_CHANNELS = (64, 128, 256, 512)


class Config(ModelConfig):
    """Size of a ResNet and of its embedding."""

    depth: Literal[18, 34, 50] = 18
    """Layers with weights; 50 has bottleneck blocks."""
    embedding_dim: Annotated[int, Field(ge=0, le=65536)] = 0
    """Size of the linear embedding after the average pooling; 0 = the pooled feature itself."""
    l2_norm: bool = False
    """Bring embeddings to unit length."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """First layers: 7x7 with stride 2 and max-pooling (``imagenet``), which leaves 1/32 of the
    image's side, or 3x3 with stride 1 (``small``), as is usual for images of about 32 pixels."""
    pretrained: PretrainedPath = ""
    """File to start from, in torchvision's layout (``resnet50-0676ba61.pth``, or the same as
    .safetensors); its fully connected layer is left out. Width 1 and stem ``imagenet`` only."""

    @model_validator(mode="after")
    def _pretrained_fits(self) -> "Config":
        if self.pretrained and (self.width != 1.0 or self.stem != "imagenet"):
            raise ValueError(
                "pretrained weights have width 1.0 and stem 'imagenet', got width "
                f"{self.width} and stem {self.stem!r}"
            )
        return self

    def channels(self, published: int) -> int:
        """Channels of a layer, given those of the published network; at least 1."""
        return max(1, round(published * self.width))


class ResNet(Model):
    """Images to feature maps, a pooled feature, an embedding, and logits where there are classes.

    Taps:
        layer1, layer2, layer3, layer4: Output of each stage, after its last activation; with the
            ImageNet stem at 1/4, 1/8, 1/16 and 1/32 of the image's side.
        pooled, embedding, logits: See `EmbeddingHead`.
    """

    Config: ClassVar[type[ModelConfig]] = Config

    def __init__(self, backbone: "Backbone", head: EmbeddingHead, pretrained: str = "") -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.pretrained = pretrained

    def taps(self) -> Mapping[str, TapInfo]:
        """The taps that `forward` gives, by name."""
        axes = ("batch", "channels", "height", "width")
        stages = zip(Backbone.STAGES, self.backbone.channels, strict=True)
        return {name: TapInfo(axes, channels) for name, channels in stages} | self.head.taps()

    def forward(self, batch: ImageBatch) -> Taps:
        """Runs the network on a batch and returns every tap that `taps` promises."""
        if len(batch.images) == 0:  # batch normalisation has no statistics of nothing
            return {
                name: batch.images.new_zeros(0, tap.channels, *(1,) * (len(tap.axes) - 2))
                for name, tap in self.taps().items()
            }
        maps = self.backbone(batch.images)
        return {**maps, **self.head(maps["layer4"])}

    def macs(self, batch: ImageBatch) -> int:
        """Multiply-accumulate operations of one forward pass, from the size of the images."""
        return dense_macs(self, batch)

    def load_pretrained(self) -> None:
        """Starts from the file that the configuration names, if it names one.

        Raises:
            CheckpointError: The file is missing, damaged or of another network.
        """
        if self.pretrained:
            load_pretrained(self.backbone, self.pretrained, ignore="fc.")


class Backbone(nn.Module):
    """The convolutions, with torchvision's names."""

    STAGES: ClassVar[tuple[str, ...]] = ("layer1", "layer2", "layer3", "layer4")

    def __init__(self, config: Config, image_channels: int) -> None:
        super().__init__()
        make = Bottleneck if config.depth == 50 else BasicBlock
        first = config.channels(_CHANNELS[0])
        if config.stem == "imagenet":
            self.conv1 = _conv(image_channels, first, 7, stride=2)
            self.maxpool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        else:
            self.conv1 = _conv(image_channels, first, 3)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU(inplace=True)
        self.channels: list[int] = []
        inputs = first
        sizes = zip(self.STAGES, _CHANNELS, _BLOCKS[config.depth], strict=True)
        for stage, (name, published, num_blocks) in enumerate(sizes):
            blocks = []
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(make(inputs, config.channels(published), stride))
                inputs = blocks[-1].channels
            self.add_module(name, nn.Sequential(*blocks))
            self.channels.append(inputs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> dict[str, Tensor]:
        """Output of each stage."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = {}
        for name in self.STAGES:
            x = maps[name] = self.get_submodule(name)(x)
        return maps


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv1 = _conv(inputs, channels, 3, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the shortcut before the last activation."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; four times as many channels come out."""

    def __init__(self, inputs: int, hidden: int, stride: int) -> None:
        super().__init__()
        self.channels = 4 * hidden
        self.conv1 = _conv(inputs, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = _conv(hidden, hidden, 3, stride=stride)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = _conv(hidden, self.channels, 1)
        self.bn3 = nn.BatchNorm2d(self.channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, self.channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Adds the shortcut before the last activation."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, channels: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == channels:
        return None
    return nn.Sequential(_conv(inputs, channels, 1, stride=stride), nn.BatchNorm2d(channels))


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


def build(config: Config, model_input: ModelInput) -> ResNet:
    """Builds the network; weights are drawn from torch's default generator.

    Raises:
        SpecError: The task gives no images.
    """
    backbone = Backbone(config, need_images("resnet", model_input))
    head = EmbeddingHead(
        backbone.channels[-1],
        embedding_dim=config.embedding_dim,
        l2_norm=config.l2_norm,
        num_classes=model_input.num_classes,
    )
    return ResNet(backbone, head, config.pretrained)
