"""The embedded world as the data of an experiment."""

from pathlib import Path

from hem.artifacts import alone, digest_of
from hem.data.bundle import DataBundle
from hem.data.coco_json import CocoJson
from hem.data.synthetic import WORLD_VERSION, Progress, WorldSpec, make_world


def world_name(spec: WorldSpec) -> str:
    """Return the folder name of a world: its seed, and a digest of all that decides it."""
    return f"seed{spec.seed}_{digest_of({'version': WORLD_VERSION, **spec.as_dict()})[:12]}"


def embedded(
    root: Path | str,
    seed: int = 0,
    n_train: int = 400,
    n_test: int = 120,
    n_unlabelled_videos: int = 6,
    n_heldout_videos: int = 5,
    frames_per_video: int = 250,
    frames_per_heldout_video: int = 150,
    size_px: int = 192,
    fps: int = 15,
    workers: int | None = None,
    progress: Progress | None = None,
) -> DataBundle:
    """Make the embedded world (or check the one already made) and return it as an experiment's data.

    Args:
        root: folder of worlds; each lies in its own folder there, named after what decides it.
        seed, n_train, n_test, n_unlabelled_videos, n_heldout_videos, frames_per_video,
            frames_per_heldout_video, size_px, fps: see WorldSpec.
        workers, progress: see make_world.

    Raises:
        HemError: on a value out of range or a damaged world.
    """
    spec = WorldSpec(
        seed=seed,
        n_train=n_train,
        n_test=n_test,
        n_unlabelled_videos=n_unlabelled_videos,
        n_heldout_videos=n_heldout_videos,
        frames_per_video=frames_per_video,
        frames_per_heldout_video=frames_per_heldout_video,
        size_px=size_px,
        fps=fps,
    )
    name = world_name(spec)
    with alone(Path(root) / "locks" / f"{name}.lock"):  # runs side by side want the same world
        world = make_world(Path(root) / name, spec, workers=workers, progress=progress)
    stills = world.root / "stills"
    return DataBundle(
        train=CocoJson(stills, "train.json", "train"),
        test=CocoJson(stills, "test.json", "test"),
        videos=str(world.videos("unlabelled")),
        heldout_videos=str(world.videos("heldout")) if n_heldout_videos else None,
        videos_truth=str(world.truth("unlabelled")),
        heldout_truth=str(world.truth("heldout")) if n_heldout_videos else None,
    )
