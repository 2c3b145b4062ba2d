"""What a caller of the Python interface may name instead of building it: videos, a preset, a checkpoint."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from hem import settings
from hem.errors import HemError
from hem.mining.presets import Preset
from hem.structures import VideoInfo
from hem.video.manifest import Manifest, scan_videos

if TYPE_CHECKING:
    from hem.detectors.protocol import Detector

AnyPath = str | PathLike[str]
SomeVideos = Manifest | AnyPath | Sequence[VideoInfo | AnyPath]
"""What scan_videos found, or what it is to look at: a file, a folder, a list; or VideoInfos."""


def videos_of(videos: SomeVideos, copies: Path) -> Manifest:
    """Return the videos that were named, looked into if they come as paths.

    Args:
        copies: folder for videos that were given as URLs.

    Raises:
        HemError: if there is none, or as hem.video.manifest.scan_videos.
    """
    if isinstance(videos, Manifest):
        return videos
    if isinstance(videos, str | PathLike):
        return scan_videos(str(videos), copies)
    infos = [one for one in videos if isinstance(one, VideoInfo)]
    names = [str(one) for one in videos if isinstance(one, str | PathLike)]
    if len(infos) + len(names) < len(videos):
        strange = next(one for one in videos if not isinstance(one, VideoInfo | str | PathLike))
        raise HemError(
            f"videos must be paths or VideoInfos (hem.video.manifest), got {type(strange).__name__}"
        )
    if infos and names:
        raise HemError("videos must be either paths or VideoInfos, not some of each")
    if not infos and not names:
        raise HemError("no videos were given: the list is empty")
    return Manifest(tuple(infos)) if infos else scan_videos(names, copies)


def preset_of(preset: Preset | str) -> Preset:
    """Return a preset, of that name under ``conf/mining`` if it is a text.

    Raises:
        HemError: for an unknown name, or something that is no preset.
    """
    if isinstance(preset, str):
        return settings.preset(preset)
    if not hasattr(preset, "mine"):
        raise HemError(
            f"preset must be a name such as 'hem' or made by hem.settings.preset, got {type(preset).__name__}"
        )
    return preset


def detector_of(detector: "Detector | AnyPath | None") -> "Detector | None":
    """Return a detector, read from its checkpoint (onto a GPU, where there is one) if it is a path.

    Raises:
        HemError: for something that is neither, or a file that holds no detector.
    """
    if detector is None:
        return None
    # here: networks take seconds to import, which given detections need not wait for
    from hem.detectors.protocol import Detector

    if isinstance(detector, str | PathLike):
        from hem.training.checkpoint import detector_from, load_checkpoint
        from hem.training.measure import accelerator_of

        path = Path(detector)
        return detector_from(load_checkpoint(path), path).to(accelerator_of("auto"))
    if not isinstance(detector, Detector):
        raise HemError(
            f"detector must be one of hem's or a checkpoint, got {type(detector).__name__}; torchvision's "
            "networks and functions go into hem.detectors.wrapped.WrappedDetector, with names of classes"
        )
    return detector
