"""Finding videos."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hem.errors import HemError
from hem.video.manifest import VIDEO_SUFFIXES, scan_videos

MakeVideo = Callable[..., Path]


def test_folder_ids_digests_and_order(tmp_path: Path, make_video: MakeVideo) -> None:
    first, second = make_video("in/b.mp4", n=2), make_video("in/a/z.MKV".lower(), n=2)
    make_video("in/.hidden/c.mp4", n=2)
    (tmp_path / "in" / "notes.txt").write_text("no video")
    videos = scan_videos(tmp_path / "in")
    assert [video.video_id for video in videos] == ["a/z.mkv", "b.mp4"]
    assert [video.digest for video in videos] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (second, first)
    ]
    assert {(v.width, v.height, v.fps, v.n_frames) for v in videos} == {(64, 48, 25.0, None)}
    assert len(videos) == 2 and videos[0].path == str(second) and not videos.skipped


def test_linked_folders_are_searched_and_each_folder_once(tmp_path: Path, make_video: MakeVideo) -> None:
    for name in ("in/a/one.mp4", "out/two.mp4", "out/deep/three.mp4", "in/.hidden/four.mp4"):
        make_video(name, n=2)
    root = tmp_path / "in"
    (root / "a" / "back").symlink_to(root)  # a loop
    (root / "again").symlink_to(root / "a")
    (root / "linked").symlink_to(tmp_path / "out")
    (root / "seen").symlink_to(root / ".hidden")
    (root / "twice").symlink_to(tmp_path / "out" / "deep")
    (tmp_path / "out" / "up").symlink_to(tmp_path / "out")
    (root / "nowhere").symlink_to(tmp_path / "absent")
    (tmp_path / "link").symlink_to(root)
    expected = ["a/one.mp4", "linked/deep/three.mp4", "linked/two.mp4", "seen/four.mp4"]
    for top in (root, tmp_path / "link"):
        assert [video.video_id for video in scan_videos(top).videos] == expected


def test_single_file_and_several(make_video: MakeVideo) -> None:
    one, two = make_video("x/one.mp4", n=2), make_video("y/two.mp4", n=2)
    assert [video.video_id for video in scan_videos(str(one))] == ["one.mp4"]
    assert [video.video_id for video in scan_videos([str(two), one.parent])] == ["one.mp4", "two.mp4"]


def test_equal_ids_are_an_error(make_video: MakeVideo) -> None:
    one, two = make_video("x/a.mp4", n=2), make_video("y/a.mp4", n=2)
    with pytest.raises(HemError, match=r"two videos have the id 'a\.mp4'"):
        scan_videos([one, two])
    with pytest.raises(HemError, match=r"a\.mp4 is named twice: leave one of them out"):
        scan_videos([one, one.parent / ".." / "x" / "a.mp4"])


def test_list_of_paths(tmp_path: Path, make_video: MakeVideo) -> None:
    make_video("clips/a.mp4", n=2)
    outside = make_video("b.mp4", n=2)
    listing = tmp_path / "lists" / "videos.txt"
    listing.parent.mkdir()
    listing.write_text(f"# mine\n../clips/a.mp4  \n\n  # indented\n{outside}\n")
    assert [video.video_id for video in scan_videos(listing)] == ["a.mp4", "b.mp4"]
    near = tmp_path / "near.txt"
    near.write_text("clips/a.mp4\n")
    assert [video.video_id for video in scan_videos(near)] == ["clips/a.mp4"]
    near.write_text("clips/none.mp4\n")
    with pytest.raises(HemError, match=r"names clips/none\.mp4"):
        scan_videos(near)
    near.write_text("clips/a.mp4  # mine\n")
    with pytest.raises(HemError, match=r"which is not there .* a comment needs a line of its own"):
        scan_videos(near)
    near.write_text("# nothing\n")
    with pytest.raises(HemError, match="lists no video"):
        scan_videos(near)


def test_a_list_names_files_with_any_letters(tmp_path: Path, make_video: MakeVideo) -> None:
    names = ["clip #1.mp4", "take#2.mp4", "ü.mp4"]
    for name in names:
        make_video(name, n=2)
    listing = tmp_path / "videos.txt"
    for encoding, end in (("utf-8", "\n"), ("utf-8-sig", "\r\n")):
        listing.write_bytes(end.join(names).encode(encoding))
        assert [video.video_id for video in scan_videos(listing)] == names
    listing.write_bytes("\n".join(names).encode("latin-1"))
    with pytest.raises(HemError, match=r"videos\.txt: .* must be UTF-8 text, and byte 23 is not; save it as"):
        scan_videos(listing)


def test_no_video_names_the_folder_and_the_suffixes(tmp_path: Path) -> None:
    with pytest.raises(HemError) as caught:
        scan_videos(tmp_path)
    assert str(tmp_path) in str(caught.value) and all(
        suffix in str(caught.value) for suffix in VIDEO_SUFFIXES
    )
    with pytest.raises(HemError, match="is not there"):
        scan_videos(tmp_path / "absent")
    with pytest.raises(HemError, match="no videos named"):
        scan_videos([])


def test_unreadable_ones_are_named_and_the_rest_stays(
    tmp_path: Path, make_video: MakeVideo, sound_only: Path
) -> None:
    make_video("in/good.mp4", n=2)
    (tmp_path / "in" / "bad.mp4").write_bytes(b"nothing")
    sound_only.rename(tmp_path / "in" / "sound.mp4")
    found = scan_videos(tmp_path / "in")
    assert [video.video_id for video in found] == ["good.mp4"]
    assert [entry.video_id for entry in found.skipped] == ["bad.mp4", "sound.mp4"]
    assert "bad.mp4" in found.skipped[0].reason and "no video stream" in found.skipped[1].reason
    (tmp_path / "in" / "good.mp4").unlink()
    with pytest.raises(HemError, match="none of the 2 videos") as caught:
        scan_videos(tmp_path / "in")
    assert "bad.mp4" in str(caught.value) and "sound.mp4" in str(caught.value)


def test_how_far_the_files_are_read_is_told(
    tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hem.artifacts.files._PIECE", 1000)
    videos = [make_video(f"{name}.mp4") for name in "ab"]
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 1000)
    total = 8000 + sum(path.stat().st_size for path in videos)
    for _ in range(2):  # the second time their digests are known
        told: list[tuple[int, int]] = []
        found = scan_videos(tmp_path, report=lambda *how_far, told=told: told.append(how_far))
        assert [one.digest for one in found] == [
            hashlib.sha256(path.read_bytes()).hexdigest() for path in videos
        ]
        done = [one for one, _ in told]
        assert done == sorted(done) and len(told) >= 3 and done[-1] == total
        assert {of for _, of in told} == {total}


def test_the_digest_follows_the_content(make_video: MakeVideo) -> None:
    path = make_video("a.mp4", n=2)
    before = scan_videos(path)[0].digest
    make_video("a.mp4", n=3)
    os.utime(path, ns=(1, 1))
    assert scan_videos(path)[0].digest == hashlib.sha256(path.read_bytes()).hexdigest() != before


def test_urls_are_copied_once(tmp_path: Path, make_video: MakeVideo) -> None:
    path = make_video("far/sub/a.mp4", n=2)
    (tmp_path / "far" / "notes.txt").write_text("no video")
    url = f"file://{tmp_path / 'far'}"
    with pytest.raises(HemError, match="cache_dir"):
        scan_videos(url)
    cache = tmp_path / "cache"
    (video,) = scan_videos(url, cache)
    assert video.video_id == "sub/a.mp4" and Path(video.path).is_relative_to(cache)
    written = Path(video.path).stat().st_mtime_ns
    assert scan_videos(url, cache)[0].path == video.path
    assert Path(video.path).stat().st_mtime_ns == written
    assert video.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(HemError, match="cannot be fetched"):
        scan_videos(f"file://{tmp_path}/absent.mp4", cache)


def test_what_was_drawn_of_a_video_is_left_out_where_the_video_is(
    tmp_path: Path, make_video: MakeVideo
) -> None:
    names = ("a.mp4", "a.mp4.overlay.mp4", "b.mp4.overlay.mp4", "out/c/d.mp4.overlay.mp4", "c/d.mp4")
    source = make_video("source.mp4")
    for name in names:
        path = tmp_path / "all" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
    found = scan_videos(tmp_path / "all")
    assert [video.video_id for video in found] == ["a.mp4", "b.mp4.overlay.mp4", "c/d.mp4"]
    assert [one.video_id for one in found.overlays] == [names[1], names[3]]
    assert "drawn over c/d.mp4" in found.overlays[1].reason and found.skipped == ()
    assert len(scan_videos(tmp_path / "all" / names[1])) == 1  # asked for by name
