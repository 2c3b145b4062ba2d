from collections.abc import Callable

import pytest

from hem.structures import HardExample, Kind


def make_examples(count, kind=Kind.HARD_NEGATIVE, rule="hem", first=0, score=lambda k: k % 100 / 100):
    return [
        HardExample("a.mp4", "d", first + k, 0.0, (1, 1, 9, 9), 1, kind, score(k), 0.5, rule)
        for k in range(count)
    ]


@pytest.fixture
def examples() -> Callable[..., list[HardExample]]:
    return make_examples
