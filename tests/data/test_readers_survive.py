"""Damaged annotation files end in a named error or a counted skip, never in anything else."""

import os
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hem.errors import HemError

NAMES = ["coco", "penn", "wider", "fddb", "caltech", "city", "voc", "bdd", "mot", "yolo"]
TOKENS = [
    *(
        b"nan",
        b"inf",
        b"-1",
        b"1e400",
        b"9" * 5000,
        b"-0",
        b"../../x.jpg",
        b"/etc/passwd",
        b"\x00",
        b"\xff\xfe",
    ),
    *(
        b"[" * 2000,
        b"{" * 2000,
        b"<a>" * 3000,
        b"<!ENTITY x SYSTEM 'file:///etc/passwd'>",
        b"null",
        b'"',
        b"\n\n",
    ),
    *(b"\xed\xa0\x80", "é".encode("utf-16"), b"true", b"1" * 400, b",,,,", b"0x1F", b"\r"),
]


def mutate(content, rng):
    kind = rng.randrange(8)
    at = rng.randrange(len(content) + 1)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return content[:at]
    if kind == 2:
        lines = content.split(b"\n")
        rng.shuffle(lines)
        return b"\n".join(lines)
    if kind == 3:
        return content[:at] + rng.choice(TOKENS) + content[at:]
    if kind == 4:
        digits = [index for index, byte in enumerate(content) if 48 <= byte <= 57]
        at = rng.choice(digits) if digits else at
        return content[:at] + rng.choice(TOKENS) + content[at + 1 :]
    if kind == 5:
        return content + content[at:]
    if kind == 6:
        return content.decode("latin-1").encode(rng.choice(["utf-16", "utf-32"]))
    damaged = bytearray(content or b"0")
    for _ in range(rng.randrange(1, 9)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def read_all(formats, name, root, policy):
    """Open and read a dataset; True if it stood, False for a named error. Anything else escapes."""
    try:
        data = formats[name].open(root, on_bad_box=policy, on_bad_image=rng_policy(policy))
        top = os.path.realpath(root)
        for index in range(len(data)):
            record = data.record(index)
            path = os.path.realpath(data.root / record.file)
            assert path.startswith(top + os.sep), f"{record.file} lies outside the root"
            width, height = record.size
            boxes = record.target.boxes_xyxy
            assert bool((boxes >= 0).all()) and bool((boxes[:, 2] <= width).all())
            assert bool((boxes[:, 3] <= height).all())
            data[index]
    except HemError as error:
        assert str(error).strip()
        return False
    return True


def rng_policy(policy):
    return "error" if policy == "error" else "skip"


def fuzz(formats, fake, name, rounds):
    root = fake(name)
    (root.parent / "x.jpg").write_bytes(next(root.rglob("*.[jp][pn]g")).read_bytes())
    files = sorted(root.glob(formats[name].annotations))
    whole = {path: path.read_bytes() for path in files}
    stood = refused = 0
    for seed in range(rounds):
        rng = random.Random(seed)
        path = rng.choice(files)
        path.write_bytes(mutate(whole[path], rng))
        start = time.monotonic()
        if read_all(formats, name, root, rng.choice(["error", "clip", "skip"])):
            stood += 1
        else:
            refused += 1
        assert time.monotonic() - start < 20, f"seed {seed} took too long"
        path.write_bytes(whole[path])
    assert refused > 0, "no damage was noticed"
    assert read_all(formats, name, root, "error"), "the whole files are still read"
    return stood, refused


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_survived(formats, fake, name):
    stood, refused = fuzz(formats, fake, name, rounds=60)
    assert stood + refused == 60 and refused > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_much_damage_is_survived(formats, fake, name):
    stood, refused = fuzz(formats, fake, name, rounds=3000)
    assert stood + refused == 3000 and refused > 0


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("caltech", "fddb", "city", "yolo")])
@pytest.mark.parametrize("trick", ["../x.jpg", "../../x.jpg", "/etc/hostname.jpg"])
def test_names_that_lead_out_are_refused(formats, fake, name, trick):
    root = fake(name)
    path = sorted(root.glob(formats[name].annotations))[0]
    if name == "mot":
        path = root / "A-01/seqinfo.ini"
        path.write_text(path.read_text().replace("imDir=img1", f"imDir=../{trick}"))
    else:
        old = {"coco": "0.jpg", "penn": "PennFudanPed/PNGImages/FudanPed00001.png", "bdd": "0.jpg"}
        old |= {"wider": "0--Parade/0_Parade_1.jpg", "voc": "000001.jpg"}
        text = path.read_text()
        assert old[name] in text
        path.write_text(text.replace(old[name], trick, 1))
    for policy in ("error", "skip"):
        try:
            data = formats[name].open(root, on_bad_image=policy)
        except HemError:
            continue
        assert not any("x.jpg" in file or "hostname" in file for file in data.image_ids)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400), name=st.sampled_from(NAMES))
def test_random_bytes_are_survived(formats, tmp_path_factory, content, name):
    root = tmp_path_factory.mktemp("bytes")
    formats[name].make(root)
    path = next(iter(sorted(root.glob(formats[name].annotations))))
    path.write_bytes(content)
    read_all(formats, name, root, "skip")
    assert path.read_bytes() == content  # reading never mends a file in place


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    corners=st.lists(
        st.tuples(*[st.floats(allow_nan=True, allow_infinity=True, width=64)] * 4), min_size=1, max_size=5
    ),
    policy=st.sampled_from(["clip", "skip"]),
)
def test_any_four_numbers_are_judged(tmp_path_factory, draw_picture, corners, policy):
    from hem.data.base import DetectionDataset
    from hem.data.records import RawBox, RawImage

    root = tmp_path_factory.mktemp("boxes")
    draw_picture(root / "a.png")
    boxes = [RawBox(*box, 1, False, "x") for box in corners]
    data = DetectionDataset(root, [RawImage("a.png", boxes, "x")], ("thing",), on_bad_box=policy)
    target = data.target(0)
    assert len(target.boxes_xyxy) + len(target.ignore_xyxy) + sum(data.skips.counts.values()) >= len(corners)
    assert bool((target.boxes_xyxy >= 0).all()) and bool((target.boxes_xyxy <= 64).all())


def test_names_that_no_file_system_takes_are_refused(tmp_path):
    from hem.data.reading import inside

    assert inside(tmp_path, "a/" + "x" * 255) == tmp_path / "a" / ("x" * 255)
    for name in ("a/" + "x" * 256, "é" * 128, "/".join(["ab"] * 342), "a\x00b", "", " ", "\ud800"):
        with pytest.raises(HemError, match="not a legal file name"):
            inside(tmp_path, name)
