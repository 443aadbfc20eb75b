"""Magnitude pruning with one budget for the whole network, spent where each layer is least sensitive."""

from __future__ import annotations

import numpy as np

from sqznet.network import sparse
from sqznet.network.quantization.sensitivity import Sensitivity


def keep(
    kernels: dict[str, np.ndarray], sensitivities: dict[str, Sensitivity], sparsity: float
) -> dict[str, np.ndarray]:
    """Where each kernel keeps its weights, bool, so that the share `sparsity` of all weights together goes.

    A weight counts by its square times the sensitivity of its layer, which is the divergence that is to be expected
    without it. Within a layer that is the order of magnitudes, as in `--recipe=dsd`.
    """
    costs = {name: each**2 * sensitivities[name].of_weights for name, each in kernels.items()}
    every = np.concatenate([each.ravel() for each in costs.values()])
    kept = sparse.mask(every, sparsity).astype(bool)
    ends = np.cumsum([each.size for each in costs.values()])[:-1]
    return {name: part.reshape(kernels[name].shape) for name, part in zip(costs, np.split(kept, ends), strict=True)}
