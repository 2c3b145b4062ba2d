import numpy as np
import pytest
from scipy.io import savemat

from hem.data.city_persons import CityPersons
from hem.errors import HemError


def test_json_layout(fake):
    data = CityPersons(fake("city"), min_height=20)
    assert data.groups == ("aachen",)
    target = data[0].target
    assert target.boxes_xyxy.tolist() == [[2, 2, 12, 32]]
    # hidden by two thirds, a rider, and an ignore region that reaches over the border
    assert target.ignore_xyxy.tolist() == [[20, 2, 30, 32], [35, 2, 45, 32], [0, 0, 15, 10]]
    assert len(CityPersons(data.root, min_height=30).target(0).boxes_xyxy) == 1
    assert len(CityPersons(data.root, min_height=30.1).target(0).boxes_xyxy) == 0


def test_mat_layout(tmp_path, draw_picture):
    draw_picture(tmp_path / "leftImg8bit/val/lindau/lindau_0_leftImg8bit.png", 2048, 1024)
    table = np.array(
        [[1, 10, 20, 40, 100, 1, 10, 20, 40, 100], [0, 500, 20, 90, 90, 0, 500, 20, 90, 90]], dtype=np.int32
    )
    cell = np.empty((1, 1), dtype=object)
    cell[0, 0] = {"cityname": "Lindau", "im_name": "lindau_0_leftImg8bit.png", "bbs": table}
    (tmp_path / "annotations").mkdir()
    savemat(tmp_path / "annotations/anno_val.mat", {"anno_val_aligned": cell})
    target = CityPersons(tmp_path, "val")[0].target
    assert target.boxes_xyxy.tolist() == [[10, 20, 50, 120]]
    assert target.ignore_xyxy.tolist() == [[500, 20, 590, 110]]


def test_absent_data_say_what_to_download(tmp_path):
    with pytest.raises(HemError, match=r"gtBbox_cityPersons_trainval\.zip"):
        CityPersons(tmp_path)
    with pytest.raises(HemError, match="train or val"):
        CityPersons(tmp_path, "test")
