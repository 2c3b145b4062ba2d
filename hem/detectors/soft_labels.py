"""Soft labels for mined boxes: interpolation, temperature, and score remapping."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hem.errors import HemError


def soften(teacher_scores: Tensor, soft_lambda: float, temperature: float = 1.0) -> Tensor:
    """Return classification targets between the hard label 1 and the teacher's score.

    With s = (1 - lambda) + lambda * score, the target is s^(1/T) / (s^(1/T) + (1 - s)^(1/T)).
    Source: RoyChowdhury et al., CVPR 2019, section 3.2; its best row has lambda = 1, T = 1.

    Args:
        teacher_scores: (N,) in [0, 1].
        soft_lambda: in [0, 1]; 0 trusts the box fully, 1 trusts it as far as the teacher does.
        temperature: > 0; above 1 pulls targets to 0.5, below 1 pushes them to 0 or 1.
    """
    if not 0 <= soft_lambda <= 1 or not temperature > 0:
        raise HemError(
            f"soft labels: lambda must lie in [0, 1] and temperature be > 0, got {soft_lambda}, {temperature}"
        )
    soft = (1.0 - soft_lambda) + soft_lambda * teacher_scores
    if temperature == 1.0:
        return soft
    # In logits, s^(1/T) / (s^(1/T) + (1-s)^(1/T)) is sigmoid(logit(s) / T), exact at 0 and 1 too.
    return torch.sigmoid(torch.logit(soft.double()) / temperature).to(soft.dtype)


def remap_scores(
    scores: NDArray[np.float64], target_scores: NDArray[np.float64], source_scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ``scores`` moved by histogram matching from the target to the source domain.

    A score at quantile q of ``target_scores`` becomes the score at quantile q of ``source_scores``:
    a detector that is too timid on new video is given the confidence it has at home. Order is kept.
    Source: RoyChowdhury et al., CVPR 2019, section 3.2 (there for detector boxes; boxes that only a
    tracker found keep their score).

    Args:
        scores: (N,) to be moved; values outside ``target_scores`` take the nearest end.
        target_scores: (T,) detector scores on the new domain, T >= 1.
        source_scores: (S,) detector scores on the labelled domain, S >= 1.

    Raises:
        HemError: if either reference is empty or not finite.
    """
    target = np.sort(np.asarray(target_scores, dtype=np.float64).reshape(-1))
    source = np.sort(np.asarray(source_scores, dtype=np.float64).reshape(-1))
    if not len(target) or not len(source):
        raise HemError("score remap: needs at least one detection in the target and in the source domain")
    if not (np.isfinite(target).all() and np.isfinite(source).all()):
        raise HemError("score remap: reference scores must be finite")
    values = np.asarray(scores, dtype=np.float64)
    # The middle of the ranks of equal scores, so that ties move together.
    rank = (np.searchsorted(target, values, "left") + np.searchsorted(target, values, "right")) / 2
    quantile = np.clip((rank - 0.5) / max(1, len(target) - 1), 0.0, 1.0)
    return np.interp(quantile, np.linspace(0.0, 1.0, len(source)), source)
