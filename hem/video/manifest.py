"""Finding videos and saying who they are: ids, digests, size and rate."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hem.artifacts import digest_of, sha256_known, whole_file
from hem.errors import HemError
from hem.structures import VideoInfo
from hem.video.image_folder_source import images_of, read_image
from hem.video.packets import claimed_frames
from hem.video.pyav_source import probe_stream

VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv",
    ".ts", ".webm", ".wmv",
)  # fmt: skip
LIST_SUFFIXES = (".txt", ".lst")
OVERLAY = ".overlay.mp4"
"""What hem.detect adds to a video's id for the file with its boxes drawn."""
_NAMED = 5


@dataclass(frozen=True)
class SkippedVideo:
    """A file that looked like a video and is not taken for one; ``reason`` is one sentence."""

    video_id: str
    path: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The videos of a scan in order of their ids, and what was left out.

    Behaves as a sequence of its videos.

    Attributes:
        videos: those that can be read.
        skipped: those that cannot.
        overlays: what hem.detect drew of others of these videos.
    """

    videos: tuple[VideoInfo, ...]
    skipped: tuple[SkippedVideo, ...] = ()
    overlays: tuple[SkippedVideo, ...] = ()

    @property
    def left_out(self) -> tuple[SkippedVideo, ...]:
        """Everything that somebody who looks for it should be told of."""
        return (*self.skipped, *self.overlays)

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[VideoInfo]:
        return iter(self.videos)

    def __getitem__(self, index: int) -> VideoInfo:
        return self.videos[index]


def scan_videos(
    root: str | Path | Sequence[str | Path],
    cache_dir: str | Path | None = None,
    report: Callable[[int, int], object] | None = None,
) -> Manifest:
    """Find videos and look into each one; every file is read once in full, since its content names it.

    Args:
        root: a video file; a folder, searched with all folders below it, linked ones too (hidden names
            left out, a folder that several paths lead to taken once);
            a UTF-8 text file (.txt, .lst) with one path a line, relative ones counted from the file's
            own folder; lines that begin with ``#`` are comments; an fsspec URL of a file or folder; or
            several of these.
        cache_dir: where URLs are copied to; needed for URLs only. A copy is used again while the
            remote file's key (size, time or checksum, as its storage has it) is the same.
        report: told as reading goes on of the bytes dealt with, and of how many there are.

    A video's id is its POSIX path relative to the folder; the file name for a single file; for a
    list the line as written if it is relative and stays below the list's folder, else the file name.

    A file that hem.detect drew (ID.overlay.mp4, in whatever folder) is left out where its video is found too.

    Raises:
        HemError: if something named is not there, no file has an accepted suffix, a list is not in
            UTF-8, two ids are equal, or none of the videos can be read. Single unreadable ones go to
            ``skipped``.
    """
    roots = [root] if isinstance(root, str | Path) else list(root)
    if not roots:
        raise HemError("no videos named: the list of paths is empty")
    found = [pair for entry in roots for pair in _found(str(entry), cache_dir)]
    _refuse_equal_ids(found)
    drawn = _drawn_of([video_id for video_id, _ in found])
    reading = _Reading([path for video_id, path in found if video_id not in drawn], report)
    videos: list[VideoInfo] = []
    skipped: list[SkippedVideo] = []
    overlays: list[SkippedVideo] = []
    for video_id, path in sorted(found):
        if video_id in drawn:
            why = f"boxes drawn over {drawn[video_id]}, which is among the videos"
            overlays.append(SkippedVideo(video_id, str(path), why))
            continue
        try:
            videos.append(probe(path, video_id, reading.told))
        except HemError as error:
            reading.told(_size(path))
            skipped.append(SkippedVideo(video_id, str(path), str(error)))
    if not videos:
        reasons = "; ".join(entry.reason for entry in skipped[:_NAMED])
        more = f"; and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        raise HemError(
            f"none of the {len(skipped)} videos under {_names(roots)} can be read: {reasons}{more}"
        )
    return Manifest(tuple(videos), tuple(skipped), tuple(overlays))


class _Reading:
    """Counts the bytes dealt with of some files, and reports them beside how many there are."""

    def __init__(self, paths: Sequence[Path], report: Callable[[int, int], object] | None) -> None:
        self._done, self._total = 0, sum(map(_size, paths))
        self._report = report

    def told(self, more: int) -> None:
        self._done += more
        if self._report is not None:
            self._report(self._done, self._total)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it is skipped with its reason
        return 0


def probe(
    path: str | Path, video_id: str | None = None, report: Callable[[int], object] | None = None
) -> VideoInfo:
    """Return what is known of one video file without decoding it through; ``n_frames`` is None.

    Args:
        path: the file, which is read once in full for its digest.
        video_id: None = the file's name.
        report: see hem.artifacts.sha256_known.

    Raises:
        HemError: if it cannot be opened or no frame decodes.
    """
    path = Path(path)
    facts = probe_stream(str(path))
    return VideoInfo(
        video_id or path.name, sha256_known(path, report), str(path), facts.width, facts.height, facts.fps
    )


def about_frames(videos: Sequence[VideoInfo]) -> int | None:
    """Return about how many frames videos have, by their headers, to show how long a pass may take.

    None if one of them does not say. Nothing else may rest on it.
    """
    counts = [claimed_frames(one.path) if one.n_frames is None else one.n_frames for one in videos]
    return sum(counts) if counts and all(counts) else None


def frames_as_video(folder: str | Path, fps: float, video_id: str | None = None) -> VideoInfo:
    """Return a folder of images as a video: image k by name (numbers as numbers) is frame k.

    The digest covers names, contents and ``fps``, as times follow from it.

    Raises:
        HemError: if the folder is not there, holds no image, or its first one cannot be read: the message
            names it and the cause.
    """
    folder = Path(folder)
    images = images_of(folder) if folder.is_dir() else []
    if not images:
        raise HemError(f"{folder} is not a folder that holds images")
    try:
        height, width = read_image(images[0]).shape[:2]
    except HemError as error:
        raise HemError(f"{folder}: {error}") from None
    digest = digest_of([float(fps), *([path.name, sha256_known(path)] for path in images)])
    name = video_id or folder.resolve().name
    return VideoInfo(name, digest, str(folder), width, height, fps, len(images))


def _found(root: str, cache_dir: str | Path | None) -> list[tuple[str, Path]]:
    if "://" in root:
        return _fetched(root, cache_dir)
    path = Path(root)
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():
        raise HemError(f"videos={root} is not there")
    if path.suffix.lower() in LIST_SUFFIXES:
        return _in_list(path)
    return [(path.name, path)]


def _in_folder(folder: Path) -> list[tuple[str, Path]]:
    found = []
    for directory, files in _folders(folder):
        for name in files:
            path = directory / name
            if path.suffix.lower() in VIDEO_SUFFIXES and not name.startswith("."):
                found.append((path.relative_to(folder).as_posix(), path))
    if not found:
        raise HemError(f"no video in {folder}: looked for {' '.join(VIDEO_SUFFIXES)}")
    return found


def _folders(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder from ``top`` on that is not hidden with its files; links are followed.

    A folder that several paths lead to comes once, by a path without links below ``top`` where there is one.
    """
    waiting, seen = deque([top]), set()
    while waiting:
        for directory, names, files in os.walk(waiting.popleft()):
            real = os.path.realpath(directory)
            if real in seen:
                names.clear()
                continue
            seen.add(real)
            names[:] = sorted(name for name in names if not name.startswith("."))
            below = (Path(directory) / name for name in names)
            waiting.extend(path for path in below if path.is_symlink())
            yield Path(directory), files


def _in_list(path: Path) -> list[tuple[str, Path]]:
    found = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # Windows' editors put a mark first
    except UnicodeDecodeError as error:
        raise HemError(
            f"{path}: a list of videos must be UTF-8 text, and byte {error.start} is not; save it as UTF-8, "
            "or if it is no list, name the videos themselves"
        ) from None
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):  # later in a line it may belong to a name
            continue
        video = path.parent / text
        if not video.is_file():
            hint = "; a comment needs a line of its own" if "#" in text else ""
            raise HemError(f"{path} names {text}, which is not there (looked for {video}){hint}")
        pure = PurePosixPath(Path(text).as_posix())
        inside = not pure.is_absolute() and ".." not in pure.parts
        found.append((pure.as_posix() if inside else video.name, video))
    if not found:
        raise HemError(f"{path} lists no video")
    return found


def _fetched(url: str, cache_dir: str | Path | None) -> list[tuple[str, Path]]:
    import fsspec

    if cache_dir is None:
        raise HemError(f"videos={url} is remote: name a folder for local copies with cache_dir")
    try:
        files, remote = fsspec.core.url_to_fs(url)
        folder = files.isdir(remote)
        paths = sorted(files.find(remote)) if folder else [remote]
        wanted = [p for p in paths if not folder or PurePosixPath(p).suffix.lower() in VIDEO_SUFFIXES]
        found = []
        for source in wanted:
            name = PurePosixPath(source).relative_to(remote) if folder else PurePosixPath(source).name
            key = hashlib.sha256(f"{url}|{source}|{files.ukey(source)}".encode()).hexdigest()[:16]
            copy = Path(cache_dir) / key / PurePosixPath(source).name
            if not copy.is_file():
                with whole_file(copy) as temporary:
                    files.get_file(source, str(temporary))
            found.append((str(name), copy))
    except (OSError, ValueError, ImportError) as error:
        raise HemError(f"videos={url} cannot be fetched ({error})") from None
    if not found:
        raise HemError(f"no video in {url}: looked for {' '.join(VIDEO_SUFFIXES)}")
    return found


def _drawn_of(ids: Sequence[str]) -> dict[str, str]:
    """Return the ids of overlays of others of these videos, with those of the videos."""
    known, drawn = set(ids), {}
    for one in ids:
        if one.endswith(OVERLAY):
            parts = one.removesuffix(OVERLAY).split("/")  # an output folder may lie among the videos
            shown = ("/".join(parts[first:]) for first in range(len(parts)))
            if video := next((name for name in shown if name in known), None):
                drawn[one] = video
    return drawn


def _refuse_equal_ids(found: Sequence[tuple[str, Path]]) -> None:
    first: dict[str, Path] = {}
    for video_id, path in found:
        if video_id not in first:
            first[video_id] = path
            continue
        if first[video_id].samefile(path):
            raise HemError(f"{path} is named twice: leave one of them out")
        raise HemError(
            f"two videos have the id {video_id!r}: {first[video_id]} and {path}; "
            "scan a folder above both, or rename one"
        )


def _names(roots: Sequence[str | Path]) -> str:
    return ", ".join(str(entry) for entry in roots[:_NAMED]) + (" …" if len(roots) > _NAMED else "")
