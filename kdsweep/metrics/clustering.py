"""Normalised mutual information between the clusters of embeddings and their classes."""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor


def clustering_nmi(
    embeddings: Float[Tensor, "images channels"], labels: Int[Tensor, " images"]
) -> float:
    """NMI of k-means clusters, as many as there are classes (Manning et al., 2008, sec. 16.3).

    Source: Oh Song et al., CVPR 2016, sec. 6; here with scikit-learn's k-means (one k-means++
    start, fixed seed) and its NMI (arithmetic mean of both entropies). Time grows with images x
    classes: minutes for CUB-200-2011, many hours for Stanford Online Products.

    Args:
        embeddings: One row per image, finite.
        labels: Class of each image.

    Returns:
        0..1.
    """
    # a second to import, for a metric that is off by default
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import normalized_mutual_info_score

    num_classes = len(torch.unique(labels))
    with warnings.catch_warnings():
        # fewer different embeddings than classes: a collapsed network, and a low NMI says so
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(num_classes, n_init=1, random_state=0).fit_predict(
            embeddings.double().cpu().numpy()
        )
    return float(normalized_mutual_info_score(labels.cpu().numpy(), clusters))
