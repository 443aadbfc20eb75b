"""Prunes small weights with one budget for the whole network. The sensitivity of a layer is the weight of its costs."""

from __future__ import annotations

import numpy as np

from sqznet.network import sparse
from sqznet.network.quantization.sensitivity import Sensitivity


def masks(
    kernels: dict[str, np.ndarray], sensitivities: dict[str, Sensitivity], sparsity: float
) -> dict[str, np.ndarray]:
    """Returns masks that are true for the weights that stay.

    Over all layers, the fraction `sparsity` of the weights is pruned.

    The cost of pruning a weight is its square times the sensitivity of its layer. This cost is the expected divergence.
    Within a layer the order is that of the magnitudes, as in `--recipe=dsd`.
    """
    costs = {name: each**2 * sensitivities[name].per_weight for name, each in kernels.items()}
    every = np.concatenate([each.ravel() for each in costs.values()])
    kept = sparse.mask(every, sparsity).astype(bool)
    ends = np.cumsum([each.size for each in costs.values()])[:-1]
    return {name: part.reshape(kernels[name].shape) for name, part in zip(costs, np.split(kept, ends), strict=True)}
