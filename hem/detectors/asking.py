"""A detector asked about one batch after the other."""

from collections.abc import Callable, Sequence

from torch import Tensor

from hem.detectors.parts import Parts
from hem.structures import Detections


class Asking:
    """Says what a detector finds in images; the next batch may be begun before the last is answered.

    Args:
        ask: called with images of one size, uint8 (3, H, W) each, and whether they are frames.
        parts: opened; who asks.
    """

    def __init__(self, ask: Callable[[list[Tensor], bool], list[Detections]], parts: Parts) -> None:
        self._ask = ask
        self._parts = parts

    def __call__(self, images: Sequence[Tensor] | Tensor) -> list[Detections]:
        """Return the detections of each image; see Detector.detect."""
        return self.begin(images)()

    def begin(self, images: Sequence[Tensor] | Tensor) -> Callable[[], list[Detections]]:
        """Return what gives the detections of each image when it is called; see Detector.detect.

        Where several threads share the work it starts at once, beside what the caller does meanwhile. The
        images must not be written to until it is done. What goes wrong is raised when it is called.
        """
        frames = isinstance(images, Tensor)
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            groups.setdefault(tuple(image.shape), []).append(index)

        def ask(part: list[int]) -> list[Detections]:
            return self._ask([images[index] for index in part], frames)

        answers = self._parts.begin(ask, list(groups.values()))

        def finish() -> list[Detections]:
            found: dict[int, Detections] = {}
            for part, given in answers():
                found.update(zip(part, given, strict=True))
            return [found[index] for index in range(len(found))]

        return finish
