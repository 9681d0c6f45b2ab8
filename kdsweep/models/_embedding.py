"""What image networks end with: pooled feature, embedding and logits."""

from jaxtyping import Float
from torch import Tensor, nn

from kdsweep.errors import SpecError
from kdsweep.losses.affinity import unit_rows
from kdsweep.types import ModelInput, TapInfo, Taps


def need_images(model: str, model_input: ModelInput) -> int:
    """Channels of the task's images.

    Raises:
        SpecError: The task has none.
    """
    if model_input.image_channels < 1:
        raise SpecError(f"model {model!r} takes images, but the run's task gives none")
    return model_input.image_channels


class EmbeddingHead(nn.Module):
    """Global average pooling, a linear embedding, and logits where there are classes.

    Taps:
        pooled: Mean of the feature map.
        embedding: Linear map of the pooled feature, or the feature itself; unit length on demand.
        logits: Linear map of the embedding before it is brought to unit length; only with classes.
    """

    def __init__(
        self, channels: int, *, embedding_dim: int, l2_norm: bool, num_classes: int
    ) -> None:
        """Builds the layers.

        Args:
            channels: Of the feature map.
            embedding_dim: Size of the embedding; 0 = the pooled feature is the embedding.
            l2_norm: Whether embeddings have unit length.
            num_classes: Classes of the logits; 0 = no logits.
        """
        super().__init__()
        self.channels = channels
        self.dim = embedding_dim or channels
        self.l2_norm = l2_norm
        self.embedding = nn.Linear(channels, embedding_dim) if embedding_dim else nn.Identity()
        self.classifier = nn.Linear(self.dim, num_classes) if num_classes else None

    def taps(self) -> dict[str, TapInfo]:
        """The taps that `forward` gives, by name."""
        given = {
            "pooled": TapInfo(("batch", "channels"), self.channels),
            "embedding": TapInfo(("batch", "channels"), self.dim),
        }
        if self.classifier is not None:
            given["logits"] = TapInfo(("batch", "classes"), self.classifier.out_features)
        return given

    def forward(self, feature_map: Float[Tensor, "batch channels height width"]) -> Taps:
        """Pools, embeds and classifies; a zero embedding stays zero and gets no gradient."""
        # The mean, because the gradient of adaptive pooling is not deterministic on CUDA.
        pooled = feature_map.mean(dim=(2, 3))
        embedding = self.embedding(pooled)
        given = {"pooled": pooled, "embedding": embedding}
        if self.classifier is not None:
            given["logits"] = self.classifier(embedding)
        if self.l2_norm:
            given["embedding"] = unit_rows(embedding)
        return given
