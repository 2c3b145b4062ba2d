"""Checks shared by the structures: shape, dtype and range, with one way of saying what is wrong."""

import numpy as np
import torch
from torch import Tensor

from hem.errors import HemError


def as_tensor(name: str, value: object, dtype: torch.dtype, tail: tuple[int, ...], where: str) -> Tensor:
    """Return ``value`` as a contiguous tensor of ``dtype`` and shape (N, *tail).

    An empty value of any shape becomes (0, *tail). A tensor that already fits is returned as it is,
    never copied, so callers must not write into it.

    Raises:
        HemError: if the shape does not fit or a floating value is not finite; the message starts
            with ``where``.
    """
    if not isinstance(value, Tensor):
        value = torch.from_numpy(np.ascontiguousarray(np.asarray(value, dtype=np.float64)))
    if value.numel() == 0 and value.ndim <= 1 + len(tail):
        value = value.reshape((0, *tail))
    if value.ndim != 1 + len(tail) or tuple(value.shape[1:]) != tail:
        expected = "(N" + "".join(f", {size}" for size in tail) + ")"
        raise HemError(f"{where}: {name} must have shape {expected}, got {tuple(value.shape)}")
    value = value.detach().to(dtype)
    if dtype.is_floating_point and not bool(torch.isfinite(value).all()):
        raise HemError(f"{where}: {name} holds a value that is not finite")
    return value.contiguous()


def same_length(where: str, **lengths: int) -> None:
    """Raise HemError unless every named length is the same."""
    if len(set(lengths.values())) > 1:
        named = ", ".join(f"{name}={length}" for name, length in lengths.items())
        raise HemError(f"{where}: these must have one length: {named}")


def valid_boxes(name: str, boxes_xyxy: Tensor, where: str) -> None:
    """Raise HemError if any box has right < left or bottom < top."""
    bad = (boxes_xyxy[:, 2] < boxes_xyxy[:, 0]) | (boxes_xyxy[:, 3] < boxes_xyxy[:, 1])
    if bool(bad.any()):
        index = int(bad.nonzero()[0])
        raise HemError(
            f"{where}: {name}[{index}] = {boxes_xyxy[index].tolist()} is not (left, top, right, bottom) "
            "with left <= right and top <= bottom"
        )


def valid_labels(labels: Tensor, where: str, lowest: int = 1) -> None:
    """Raise HemError if a label is below ``lowest`` (classes are counted from 1; 0 is background)."""
    if bool((labels < lowest).any()):
        raise HemError(f"{where}: labels count from {lowest}, got {int(labels.min())}")
