"""Schema of every command's configuration: an unknown key, a wrong type or range names the key.

The groups that build an object (``detector``, ``data``, ``mining``) are checked against the
constructor they name when they are built, before any data is touched; all else is checked here.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hem.errors import HemError

Node = dict[str, Any]
Model = TypeVar("Model", bound="Strict")


class Strict(BaseModel):
    """A group of settings: frozen, and no key but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False)


class VideoConfig(Strict):
    """How frames are read."""

    decoder: Literal["auto", "decord", "pyav", "torchcodec"] = Field("auto", description="who decodes")
    device: Literal["cpu", "cuda", "auto"] = Field("cpu", description="where frames arrive as uint8 tensors")
    batch_size: int = Field(16, ge=1, description="frames per batch")
    guard: Literal["auto", "always", "never"] = Field(
        "auto", description="decode in a process that can be ended"
    )
    stall_s: float = Field(30.0, gt=0, description="seconds without a frame before a decoder counts as hung")


class OptimConfig(Strict):
    """Optimiser and schedule of one training stage."""

    name: Literal["adamw", "sgd"] = Field("adamw", description="optimiser")
    lr: float = Field(1e-3, gt=0, description="peak learning rate; too high diverges, too low learns nothing")
    backbone_lr_scale: float = Field(1.0, ge=0, description="learning rate of the backbone relative to lr")
    weight_decay: float = Field(0.02, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup_steps: int = Field(20, ge=0, description="optimiser steps of linear warm-up")
    step_milestones: tuple[float, ...] = Field(
        (0.67, 0.89), description="shares of the steps where lr falls to a tenth"
    )
    final_lr_scale: float = Field(0.05, ge=0, le=1, description="lr at the end of the cosine relative to lr")


class StageConfig(Strict):
    """One training stage: the baseline, or the extra steps of every arm."""

    steps: int = Field(..., ge=1, description="optimiser steps")
    steps_per_epoch: int = Field(50, ge=1, description="steps between two chances to mine")
    batch_size: int = Field(8, ge=1, description="labelled images a step; replay images come on top")
    optim: OptimConfig = OptimConfig()


class TrainerConfig(Strict):
    """What both stages share."""

    baseline: StageConfig
    extra: StageConfig
    accelerator: Literal["cpu", "gpu", "auto"] = Field("auto", description="where networks run")
    devices: int = Field(1, ge=1)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    accumulate: int = Field(1, ge=1, description="batches per optimiser step")
    clip_norm: float = Field(10.0, gt=0, description="gradient norm above which it is scaled down")
    channels_last: bool = Field(False, description="memory format of the network")
    compile: bool = Field(False, description="torch.compile the backbone")
    freeze_backbone_steps: int = Field(0, ge=0, description="steps before the backbone learns too")
    workers: int = Field(0, ge=0, description="loader processes")
    threads: int = Field(0, ge=0, description="CPU threads of torch; 0 leaves torch's choice")
    checkpoint_every_steps: int = Field(100, ge=1, description="steps between checkpoints to resume from")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="0: no EMA teacher; 0.999 averages the last ~1000 steps"
    )


class RoundsConfig(Strict):
    """When an arm mines."""

    start_epoch: int = Field(0, ge=0, description="0 mines before the first extra step")
    every_n_epochs: int = Field(1, ge=1)
    max_rounds: int = Field(
        1, ge=1, description="round 1 queries the shared evidence; later ones are the arm's own"
    )
    teacher: Literal["current", "ema"] = "current"


class ReplayConfig(Strict):
    """How mined frames enter the batches."""

    share: float = Field(
        0.5, ge=0, lt=1, description="replay / (replay + labelled) in each batch; [S] uses 0.5"
    )
    max_frames: int = Field(400, ge=1, description="frames kept a round; more is more disk, not more steps")
    max_per_video: int = Field(200, ge=1, description="so that one clip cannot dominate")
    max_per_track: int = Field(6, ge=1, description="so that one object cannot dominate")
    decay: float = Field(0.7, gt=0, le=1, description="weight of a round relative to the next one")
    soft: bool = Field(False, description="train pseudo-labels towards the teacher's score")
    image_format: Literal["png", "jpg"] = "png"


class ArmConfig(Strict):
    """One arm: the preset that mines for it (null: nothing), and the kinds it replays."""

    mining: str | None = Field(
        None, description="name of a file in conf/mining, 'default' for the chosen one"
    )
    kinds: tuple[Literal["hard_negative", "hard_positive", "pseudo_label"], ...] = ()
    soft: bool = False

    @model_validator(mode="after")
    def _both_or_none(self) -> "ArmConfig":
        if (self.mining is None) != (not self.kinds):
            raise ValueError("give both mining and kinds, or neither (the control)")
        return self


class LoggerConfig(Strict):
    """Where figures go besides the run directory."""

    mode: Literal["offline", "online", "disabled"] = Field("offline", description="W&B; online is explicit")
    project: str = "hem"
    tensorboard: bool = False
    connect_timeout_s: float = Field(10.0, gt=0, description="after it an online run goes on offline")
    max_pictures: int = Field(24, ge=0, description="pictures logged a round")


class EvaluationConfig(Strict):
    """How arms are measured."""

    iou: float = Field(0.5, gt=0, le=1, description="overlap that counts as found")
    floor_score: float = Field(0.02, ge=0, lt=1, description="detections below it are not kept")
    batch_size: int = Field(16, ge=1)


class TrainConfig(Strict):
    """``python -m hem.train``."""

    name: str = Field(..., pattern=r"^[A-Za-z0-9_.-]+$", description="experiment name; part of output_dir")
    seed: int = Field(0, ge=0)
    output_dir: str
    store_dir: str = Field(..., description="finished stages, found again by what made them")
    control: str = Field("continued", description="the arm that differences are taken to")
    videos: str | list[str] | None = Field(None, description="unlabelled videos: file, folder, list")
    heldout_videos: str | list[str] | None = Field(None, description="videos with truth, for figures only")
    heldout_truth: str | None = Field(None, description="folder of truth for heldout_videos")
    videos_truth: str | None = Field(None, description="truth of the unlabelled videos, for purity only")
    objective: str | None = Field(None, description="arm.figure that a sweep optimises")
    checkpoint: str | None = Field(
        None, description="start from these weights instead of training a baseline"
    )
    detector: Node
    data: Node
    augment: Node
    video: VideoConfig
    mining: Node
    collect: Node
    replay: ReplayConfig
    rounds: RoundsConfig
    arms: dict[str, ArmConfig]
    trainer: TrainerConfig
    evaluation: EvaluationConfig
    logger: LoggerConfig

    @model_validator(mode="after")
    def _control_is_an_arm(self) -> "TrainConfig":
        if self.arms and self.control not in self.arms:
            raise ValueError(f"control {self.control!r} is not among the arms {sorted(self.arms)}")
        return self


class MineConfig(Strict):
    """``python -m hem.mine``."""

    output_dir: str
    videos: str | list[str] | None = None
    frames: str | None = Field(None, description="a folder of images taken as one video")
    frames_fps: float = Field(25.0, gt=0, description="frames per second of that folder")
    checkpoint: str | None = None
    detections: str | None = Field(None, description="file or folder of detections made elsewhere")
    detections_format: Literal["auto", "authors", "mot", "coco", "parquet"] = "auto"
    evidence: str | None = Field(None, description="evidence collected before: nothing is decoded")
    class_names: tuple[str, ...] = ()
    keep_frames: bool = Field(False, description="write the mined frames as a replay round")
    seed: int = Field(0, ge=0)
    video: VideoConfig
    mining: Node
    collect: Node
    replay: ReplayConfig


class DetectConfig(Strict):
    """``python -m hem.detect``."""

    output_dir: str
    videos: str | list[str]
    checkpoint: str
    overlay: bool = Field(False, description="also write each video with its boxes drawn")
    overlay_score: float = Field(0.5, description="boxes below it are not drawn")
    floor_score: float = Field(0.05, ge=0, lt=1)
    verdicts: str | None = Field(None, description="a hard_examples.parquet to draw as well")
    video: VideoConfig


class EvaluateConfig(Strict):
    """``python -m hem.evaluate``."""

    protocol: Node
    predictions: str | None = None
    ground_truth: str | None = None
    checkpoint: str | None = None
    data: Node | None = None
    output_dir: str


class ReportConfig(Strict):
    """``python -m hem.report``."""

    run_dir: str


class ConvertConfig(Strict):
    """``python -m hem.convert``."""

    data: Node
    output_dir: str


class ExportConfig(Strict):
    """``python -m hem.export``."""

    replay: str = Field(..., description="a replay round, or the folder of an arm's rounds")
    format: Literal["coco", "yolo"] = "coco"
    output_dir: str


def check(schema: type[Model], values: Mapping[str, Any]) -> Model:
    """Return ``values`` as ``schema``.

    Raises:
        HemError: naming each key that is unknown (with the nearest known one), missing, of the wrong
            type or out of range.
    """
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(schema, dict(one)) for one in error.errors(include_url=False)]
        raise HemError("configuration: " + "; ".join(lines)) from None


def _explain(schema: type[BaseModel], error: dict[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = _fields_at(schema, location[:-1])
        return f"unknown key {key!r}{suggest(location[-1], known)}"
    if error["type"] == "missing":
        return f"key {key!r} is missing; give {key}=…"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{key or 'settings'}: {message} (got {error.get('input')!r})" if key else message


def _fields_at(schema: type[BaseModel], location: Iterable[str]) -> list[str]:
    current: Any = schema
    for part in location:
        fields = getattr(current, "model_fields", None)
        if fields is not None and part in fields:
            current = fields[part].annotation
        else:  # a name inside a dict of models: the models' own fields are what is known
            inner = [a for a in getattr(current, "__args__", ()) if hasattr(a, "model_fields")]
            current = inner[0] if inner else None
    return sorted(getattr(current, "model_fields", {}))


def suggest(word: str, known: Iterable[str]) -> str:
    """Return '; did you mean …?' or '; known: …' for a mistyped word."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""
