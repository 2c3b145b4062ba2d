import math

import numpy as np
import pytest

from hem.data.fddb import Fddb, ellipse_boxes
from hem.errors import HemError


def test_box_round_an_ellipse_by_hand():
    upright = ellipse_boxes(np.array([[12.0, 8.0, math.pi / 2, 20.0, 24.0]]))
    assert np.allclose(upright, [[12, 12, 28, 36]])
    lying = ellipse_boxes(np.array([[12.0, 8.0, 0.0, 20.0, 24.0]]))
    assert np.allclose(lying, [[8, 16, 32, 32]])


def test_box_touches_the_ellipse():
    ellipse = np.array([[10.0, 4.0, 0.7, 3.0, -2.0]])
    turn = np.linspace(0, 2 * math.pi, 20_000)
    x = 3 + 10 * np.cos(turn) * math.cos(0.7) - 4 * np.sin(turn) * math.sin(0.7)
    y = -2 + 10 * np.cos(turn) * math.sin(0.7) + 4 * np.sin(turn) * math.cos(0.7)
    assert np.allclose(ellipse_boxes(ellipse), [[x.min(), y.min(), x.max(), y.max()]], atol=1e-5)


def test_ten_folds_with_ellipses_kept(fake):
    data = Fddb(fake("fddb"))
    assert len(data) == 10
    record = data.record(0)
    assert record.file == "originalPics/2002/08/11/big/img_1.jpg"
    assert record.extra["ellipses"].shape == (2, 5)
    assert record.target.boxes_xyxy[0].tolist() == pytest.approx([12, 12, 28, 36])
    assert float(record.target.boxes_xyxy[1, 2]) == 64, "an ellipse over the border is cut there"
    assert len(Fddb(data.root, folds=[3])) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("12.0 8.0", "-12.0 8.0", "line 3: a radius"),
        ("12.0 8.0", "12.0", "6 numbers, found 5"),
        ("\n2\n", "\n200\n", "line 1: 200 faces are announced"),
        ("2002/08", "../08", "not allowed"),
    ],
)
def test_damage_is_named(fake, old, new, message):
    root = fake("fddb")
    path = root / "FDDB-folds/FDDB-fold-01-ellipseList.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(HemError, match=message):
        Fddb(root)


def test_folds_are_checked(fake):
    with pytest.raises(HemError, match=r"folds 1\.\.10"):
        Fddb(fake("fddb"), folds=[0])


def test_real_ellipses_parse(shared_data):
    from hem.data.fddb import read_ellipses

    folder = shared_data / "protocols/fddb/FDDB-folds"
    images = [one for path in sorted(folder.glob("*ellipseList.txt")) for one in read_ellipses(path)]
    assert (len(images), sum(len(ellipses) for _, ellipses, _ in images)) == (2845, 5171)
