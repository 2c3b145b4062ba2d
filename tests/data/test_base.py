import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from hem.data.base import DetectionDataset
from hem.data.bundle import readable
from hem.data.coco_json import CocoJson
from hem.data.held_back import Chosen
from hem.data.pictures import load_rgb, size_of
from hem.data.reading import inside, number, read_text, whole_number
from hem.data.records import RawBox, RawImage
from hem.errors import HemError


def build(root, boxes, draw_picture, **options):
    draw_picture(root / "a.png", 20, 10)
    raw = [RawBox(*box, 1, False, f"line {row}") for row, box in enumerate(boxes, 1)]
    return DetectionDataset(root, [RawImage("a.png", raw, "labels.txt")], ("thing",), **options)


def test_small_overhang_is_clipped_and_exactly_two_pixels_is_small(tmp_path, draw_picture):
    data = build(tmp_path, [(-2, 0, 22, 12)], draw_picture)
    assert data.target(0).boxes_xyxy.tolist() == [[0, 0, 20, 10]]
    with pytest.raises(
        HemError, match=r"labels.txt, line 1: box \(-2.01, 0, 5, 5\).*a.png, 20x10.*on_bad_box"
    ):
        build(tmp_path, [(-2.01, 0, 5, 5)], draw_picture)


@pytest.mark.parametrize(
    ("box", "clip", "skip"),
    [
        ((-5, 0, 5, 5), ([[0, 0, 5, 5]], []), ([], [[0, 0, 5, 5]])),
        ((20, 0, 25, 5), ([], []), ([], [])),
        ((5, 5, 4, 9), ([], []), ([], [])),
        ((float("nan"), 0, 4, 9), ([], []), ([], [])),
        ((0, 0, float("inf"), 9), ([], []), ([], [])),
        ((0, 0, 1e7, 9), ([], []), ([], [])),
    ],
)
def test_impossible_boxes_under_each_policy(tmp_path, draw_picture, box, clip, skip):
    with pytest.raises(HemError, match="line 1"):
        build(tmp_path, [box], draw_picture)
    for policy, (boxes, ignore) in (("clip", clip), ("skip", skip)):
        data = build(tmp_path, [box], draw_picture, on_bad_box=policy)
        target = data.target(0)
        assert target.boxes_xyxy.tolist() == boxes and target.ignore_xyxy.tolist() == ignore
        assert sum(data.skips.counts.values()) == 1
        assert "line 1" in data.report()


def test_too_many_bad_boxes_stop_whatever_the_policy(tmp_path, draw_picture):
    bad = [(50, 0, 60, 5)] * 3
    assert build(tmp_path, bad, draw_picture, on_bad_box="skip", max_bad_boxes=3).skips.counts
    with pytest.raises(HemError, match="max_bad_boxes=2"):
        build(tmp_path, bad, draw_picture, on_bad_box="skip", max_bad_boxes=2)


def test_unknown_option_names_the_nearest(tmp_path, draw_picture):
    with pytest.raises(HemError, match=r"min_boxside.*did you mean 'min_box_side'"):
        build(tmp_path, [], draw_picture, min_boxside=3)


def test_damaged_image_is_named_or_passed_over(fake):
    root = fake("coco")
    path = root / "train2017/1.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(HemError, match=r"1\.jpg: image is damaged.*on_bad_image=skip"):
        CocoJson(root)[1]
    data = CocoJson(root, on_bad_image="skip")
    assert data[1].image_id == "train2017/2.jpg", "the next readable one, with its own labels"
    assert data[1].target.name == "train2017/2.jpg"
    assert data.skips.counts["bad image"] == 1, "one image, however often it is met"
    checked = CocoJson(root, on_bad_image="skip", check_images="pixels")
    assert checked.image_ids == ("train2017/0.jpg", "train2017/2.jpg")
    with pytest.raises(HemError, match="max_bad_images=0"):
        CocoJson(root, on_bad_image="skip", check_images="pixels", max_bad_images=0)


def test_a_bad_image_that_is_met_again_is_no_other_one(fake):
    root = fake("coco")
    path = root / "train2017/1.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    data = CocoJson(root, on_bad_image="skip", max_bad_images=1)
    for _ in range(3):
        assert data[1].image_id == "train2017/2.jpg"
    (root / "train2017/2.jpg").write_bytes(b"")
    with pytest.raises(HemError, match="max_bad_images=1"):
        data[2]


def test_only_what_can_be_decoded_is_measured_on(fake):
    root = fake("coco")
    assert (whole := CocoJson(root, on_bad_image="skip")).readable() is whole
    path = root / "train2017/1.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    data = CocoJson(root, on_bad_image="skip").readable()
    assert data.image_ids == ("train2017/0.jpg", "train2017/2.jpg")
    for index, name in enumerate(data.image_ids):
        assert data[index].image_id == data.target(index).name == name
    assert data.skips.counts["bad image"] == 1
    assert len(CocoJson(root).readable()) == 3  # on_bad_image=error: it raises when it is asked for
    held = readable(Chosen(CocoJson(root, on_bad_image="skip"), (1, 2)))
    assert held.indices == (2,) and held[0].image_id == held.target(0).name == "train2017/2.jpg"
    with pytest.raises(HemError, match="no image can be read"):
        CocoJson(root, on_bad_image="skip").subset([1]).readable()


def test_subset_digest_pickle_and_indexing(fake):
    data = CocoJson(fake("coco"))
    part = data.subset([2, 0])
    assert part.image_ids == ("train2017/2.jpg", "train2017/0.jpg")
    assert torch.equal(part.target(1).boxes_xyxy, data.target(0).boxes_xyxy)
    told = []
    assert part.digest(lambda *how_far: told.append(how_far)) == data.subset([2, 0]).digest()
    assert told == [(1, 2), (2, 2)]
    assert part.digest() != data.digest() == data.subset([0, 1, 2]).digest() == CocoJson(data.root).digest()
    assert pickle.loads(pickle.dumps(data))[0].image_id == data[0].image_id
    assert data[-1].image_id == "train2017/2.jpg" and len(list(data)) == 3
    with pytest.raises(IndexError):
        data[3]
    assert len(CocoJson(data.root, limit=2)) == 2


def test_orientation_follows_the_declared_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert size_of(path) == (30, 20) and size_of(path, "apply") == (20, 30)
    assert load_rgb(path, declared=(30, 20)).shape == (3, 20, 30)
    assert load_rgb(path, declared=(20, 30)).shape == (3, 30, 20)
    assert load_rgb(path, "apply", declared=(30, 20)).shape == (3, 20, 30)
    with pytest.raises(HemError, match="speak of 31x20"):
        load_rgb(path, declared=(31, 20))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_every_8_bit_kind_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode).save(path)
    image = load_rgb(path)
    assert image.shape == (3, 3, 4) and image.dtype == torch.uint8 and int(image.min()) == 255


def test_16_bit_and_vector_images_are_refused(tmp_path):
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(HemError, match="not 8-bit"):
        load_rgb(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(HemError, match="not a readable image"):
        load_rgb(tmp_path / "b.jpg")


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "/etc/passwd", "../x.jpg", "a/../../x.jpg", "a/..", "~/x", "C:/x", "c:x", "a\\b.jpg"),
        *("a\x00b", "a\nb", "\ud800", "x" * 1025, "\\\\host\\share"),
    ],
)
def test_names_that_are_no_names_inside_the_root(tmp_path, name):
    with pytest.raises(HemError, match=r"list\.txt"):
        inside(tmp_path, name, "list.txt")


def test_links_may_not_lead_out(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    (root / "real").mkdir(parents=True)
    out.mkdir()
    (out / "x.jpg").touch()
    (root / "file.jpg").symlink_to(out / "x.jpg")
    (root / "folder").symlink_to(out)
    (root / "within").symlink_to(root / "real")
    for name in ("file.jpg", "folder/x.jpg"):
        with pytest.raises(HemError, match="a link that leads out"):
            inside(root, name)
    assert inside(root, "within/x.jpg") == root / "within/x.jpg"
    (tmp_path / "alias").symlink_to(root)
    assert inside(tmp_path / "alias", "real/x.jpg")
    (tmp_path / "root-beside").mkdir()
    (root / "trick").symlink_to(tmp_path / "root-beside")
    with pytest.raises(HemError, match="link"):
        inside(root, "trick/x.jpg")


def test_numbers():
    assert number("1e3", "w") == 1000 and number(10**400, "w") == float("inf")
    for wrong in ("", "1,0", None, [], True, "0x10"):
        with pytest.raises(HemError, match=r"w: .* is not a number"):
            number(wrong, "w")
    assert whole_number("3.0", "w") == 3 and whole_number(0, "w") == 0
    for wrong in ("3.5", "nan", "inf", -1, "9" * 400):
        with pytest.raises(HemError, match="whole number"):
            whole_number(wrong, "w")


def test_text_is_bounded_and_utf8(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfabc")
    assert read_text(path) == "abc" and read_text(path, 6) == "abc"
    with pytest.raises(HemError, match="6 bytes, more than the 5"):
        read_text(path, 5)
    path.write_bytes("é".encode("latin-1"))
    with pytest.raises(HemError, match="not UTF-8"):
        read_text(path)
    with pytest.raises(HemError, match="cannot be read"):
        read_text(tmp_path)
