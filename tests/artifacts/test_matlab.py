import random
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from hem.artifacts.matlab import plain, read_mat
from hem.errors import HemError


def cells(*values, shape=None):
    out = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        out[index] = value
    return out.reshape(shape or (len(values), 1))


EVERYTHING = {
    "numbers": np.arange(6, dtype=np.float64).reshape(2, 3),
    "small": np.array([[1, -2], [3, 4]], dtype=np.int16),
    "single": np.array([[1.5]], dtype=np.float32),
    "cube": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "yes": np.array([[True, False]]),
    "word": "per\u00e9son",
    "nothing": np.zeros((0, 0)),
    "empty": "",
    "cells": cells("a", np.array([[1.0, 2.0]]), cells("b", "c"), np.zeros((0, 0)), shape=(2, 2)),
    "record": {"id": 3.0, "name": "x", "inner": {"pos": np.array([1.0, 2.0, 3.0, 4.0])}},
}


def same(ours, theirs):
    if isinstance(ours, str):
        assert str(theirs) == ours or (ours == "" and np.size(theirs) == 0)
    elif hasattr(ours, "__dict__"):
        assert set(vars(ours)) == set(theirs._fieldnames)
        for name, value in vars(ours).items():
            same(value, getattr(theirs, name))
    elif isinstance(ours, np.ndarray) and ours.dtype == object:
        assert ours.shape == theirs.shape
        for one, other in zip(ours.reshape(-1), theirs.reshape(-1), strict=True):
            same(one, other)
    else:
        np.testing.assert_array_equal(ours, theirs)
        assert np.shape(ours) == np.shape(theirs)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_same_as_scipy(tmp_path, compressed):
    path = tmp_path / "a.mat"
    savemat(path, EVERYTHING, do_compression=compressed)
    ours = {name: plain(value) for name, value in read_mat(path).items()}
    theirs = loadmat(path, squeeze_me=True, struct_as_record=False)
    assert set(ours) == set(EVERYTHING)
    for name, value in ours.items():
        same(value, theirs[name])
    whole = read_mat(path)
    assert whole["numbers"].shape == (2, 3) and whole["cells"].shape == (2, 2)
    assert whole["cells"][0, 0] == "a" and whole["cells"][0, 1].tolist() == [[1.0, 2.0]]


def test_big_endian_and_several_rows_of_text(tmp_path):
    def element(kind, data):
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    def array(kind, shape, *parts):
        head = element(6, struct.pack(">II", kind, 0)) + element(5, struct.pack(f">{len(shape)}i", *shape))
        return element(14, head + element(1, b"x") + b"".join(parts))

    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    path = tmp_path / "a.mat"
    path.write_bytes(header + array(6, (1, 2), element(9, struct.pack(">2d", 1.5, -2.0))))
    assert read_mat(path)["x"].tolist() == [[1.5, -2.0]]
    text = "abxy".encode("utf-16-be")  # column by column: rows "ax" and "by"
    path.write_bytes(header + array(4, (2, 2), element(4, text)))
    assert read_mat(path)["x"] == "ax"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: b"", "no header"),
        (lambda content: b"MATLAB 7.3" + content[10:], "version 7.3"),
        (lambda content: content[:-3], "longer than the file"),
        (lambda content: content + b"12345", "ends within an element"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, words):
    path = tmp_path / "a.mat"
    savemat(path, EVERYTHING)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(HemError, match=rf"a\.mat is not a readable MATLAB file: .*{words}"):
        read_mat(path)


def test_limits(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"x": np.zeros((500, 500))}, do_compression=True)
    with pytest.raises(HemError, match="cut short or too large"):
        read_mat(path, 100_000)
    with pytest.raises(HemError, match="more than the 10 expected"):
        read_mat(path, 10)
    savemat(path, {"x": np.array([[1 + 2j]])})
    with pytest.raises(HemError, match="class 6 is not read"):
        read_mat(path)
    deep = np.zeros((1, 1))
    for _ in range(40):
        deep = cells(deep)
    savemat(path, {"x": deep})
    with pytest.raises(HemError, match="nested more than 32 deep"):
        read_mat(path)
    with pytest.raises(HemError, match="cannot be read"):
        read_mat(tmp_path / "absent.mat")


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_survived(tmp_path, compressed):
    path = tmp_path / "a.mat"
    savemat(path, EVERYTHING, do_compression=compressed)
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 255, rng.randrange(256)))
        path.write_bytes(bytes(damaged[: rng.randrange(len(damaged)) if rng.random() < 0.2 else None]))
        try:
            read_mat(path)
        except HemError:
            refused += 1
    assert refused > 100


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(max_size=300))
def test_random_bytes_behind_a_header(tmp_path, tail):
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    (tmp_path / "a.mat").write_bytes(header + tail)
    try:
        read_mat(tmp_path / "a.mat")
    except HemError as error:
        assert "a.mat" in str(error)
