"""Schema of every command's configuration: an unknown key, a wrong type or range names the key.

The groups that build an object (``detector``, ``data``, ``mining``) are checked against the
constructor they name when they are built, before any data is touched; all else is checked here.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

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
    weight_decay: float = Field(0.02, ge=0, description="share of each weight taken off a step, times lr")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    schedule: Literal["cosine", "step", "constant"] = Field("cosine", description="how lr falls")
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
    devices: int = Field(1, ge=1, description="GPUs (or CPU processes) of one run")
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = Field(
        "32-true", description="of training; 16-mixed needs a GPU"
    )
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
    every_n_epochs: int = Field(1, ge=1, description="epochs (steps_per_epoch steps) between two rounds")
    max_rounds: int = Field(
        1, ge=1, description="round 1 queries the shared evidence; later ones are the arm's own"
    )
    teacher: Literal["current", "ema"] = Field(
        "current", description="whose detections later rounds mine: the weights, or their running average"
    )


class CalibrationConfig(Strict):
    """What ``score_scale=calibrated`` rests on; unused without such a preset."""

    share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the labelled training images that nothing trains on, frames of one video "
        "together, so that the scores found there can be judged; higher calibrates better and trains on less",
    )
    min_count: int = Field(
        20, ge=1, description="detections that each estimated precision rests on; higher is smoother"
    )


class ReplayConfig(Strict):
    """How mined frames enter the batches."""

    share: float = Field(
        0.5, ge=0, lt=1, description="replay / (replay + labelled) in each batch; [S] uses 0.5"
    )
    max_frames: int = Field(400, ge=1, description="frames kept a round; more is more disk, not more steps")
    max_per_video: int = Field(200, ge=1, description="so that one clip cannot dominate")
    max_per_track: int | None = Field(None, ge=1, description="lower: one object dominates less; null: all")
    decay: float = Field(0.7, gt=0, le=1, description="weight of a round relative to the next one")
    video_balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="0 draws by weight alone; 1 draws every video equally often, for cameras of their own",
    )
    soft: bool = Field(False, description="train pseudo-labels towards the teacher's score")
    image_format: Literal["png", "jpg"] = Field(
        "png", description="of kept frames; jpg is smaller, not exact"
    )


class ArmConfig(Strict):
    """One arm: the preset that mines for it (null: nothing), and the kinds it replays."""

    mining: str | None = Field(
        None, description="name of a file in conf/mining, 'default' for the chosen one"
    )
    kinds: tuple[Literal["hard_negative", "hard_positive", "pseudo_label"], ...] = Field(
        (), description="what of that is replayed; all else is ignored, not background"
    )
    soft: bool = Field(False, description="as replay.soft, for this arm")
    label_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the draws that goes by pseudo-labels instead of by hard examples; higher "
        "shows more of the video, lower (the paper: 0) more of what is hard",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="of the named preset, where they differ from its file"
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> "ArmConfig":
        if (self.mining is None) != (not self.kinds):
            raise ValueError("give both mining and kinds, or neither (the control)")
        if self.settings and self.mining in (None, "default"):
            raise ValueError("settings are those of a named preset; the chosen one's are mining.*")
        return self


class LoggerConfig(Strict):
    """Where figures go besides the run directory."""

    mode: Literal["offline", "online", "disabled"] = Field("offline", description="W&B; online is explicit")
    project: str = Field("hem", description="W&B project")
    tensorboard: bool = Field(False, description="TensorBoard files too, in output_dir/tensorboard")
    connect_timeout_s: float = Field(10.0, gt=0, description="after it an online run goes on offline")
    max_pictures: int = Field(24, ge=0, description="pictures a run logs; 0 logs none")
    artifacts: tuple[Literal["checkpoints", "replay"], ...] = Field(
        (), description="kept in W&B as artifacts: each arm's weights, its replay rounds; large"
    )


class EvaluationConfig(Strict):
    """How arms are measured: at IoU 0.5, which the figures' definitions fix."""

    floor_score: float = Field(0.02, ge=0, lt=1, description="detections below it are not kept")
    batch_size: int = Field(16, ge=1, description="images a pass of the network")
    leaks: Literal["report", "refuse", "off"] = Field(
        "report", description="what happens if evaluation data show what was trained or mined on"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_older_runs(cls, values: dict[str, Any]) -> dict[str, Any]:
        # their config.json has an ``iou`` that nothing read
        return {name: value for name, value in values.items() if (name, value) != ("iou", 0.5)}


class TrainConfig(Strict):
    """``python -m hem.train``."""

    name: str = Field(..., pattern=r"^[A-Za-z0-9_.-]+$", description="experiment name; part of output_dir")
    seed: int = Field(0, ge=0, description="of weights, batches, augmentation and the embedded world")
    output_dir: str = Field(..., description="the run directory; by default set with hydra.run.dir")
    store_dir: str = Field(..., description="finished stages, found again by what made them")
    control: str = Field("continued", description="the arm that differences are taken to")
    videos: str | list[str] | None = Field(None, description="unlabelled videos: file, folder, list")
    heldout_videos: str | list[str] | None = Field(None, description="videos with truth, for figures only")
    heldout_truth: str | None = Field(None, description="folder of truth for heldout_videos")
    videos_truth: str | None = Field(None, description="truth of the unlabelled videos, for purity only")
    objective: str | None = Field(
        None, description="what a sweep optimises: a name (see hem.reporting.objectives) or arm.figure"
    )
    objective_yield: int = Field(100, ge=1, description="surest examples that purity_at_yield counts")
    checkpoint: str | None = Field(None, description="start from these weights, without a baseline")
    verdicts: str | list[str] | None = Field(
        None, description="runs whose verdicts and removals to honour besides the own; or files of them"
    )
    detector: Node
    data: Node
    augment: Node
    video: VideoConfig
    mining: Node
    collect: Node
    calibration: CalibrationConfig = CalibrationConfig()
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

    output_dir: str = Field(..., description="where evidence and hard examples go")
    videos: str | list[str] | None = Field(None, description="file, folder, list")
    frames: str | None = Field(None, description="a folder of images taken as one video")
    frames_fps: float = Field(25.0, gt=0, description="frames per second of that folder")
    checkpoint: str | None = Field(None, description="a detector that hem trained")
    detections: str | None = Field(None, description="file or folder of detections made elsewhere")
    detections_format: Literal["auto", "authors", "mot", "coco", "parquet"] = Field(
        "auto", description="auto goes by the file's suffix, and in text by commas (MOT)"
    )
    evidence: str | None = Field(None, description="an output_dir or run whose evidence answers")
    calibration: str | None = Field(
        None, description="for mining.score_scale=calibrated: the calibration.json of a run of hem.train"
    )
    class_names: tuple[str, ...] = Field(
        (), description="of labels 1, 2, … in the detections: [person,car], or one name"
    )
    keep_frames: bool = Field(False, description="write the mined frames as a replay round")
    seed: int = Field(0, ge=0, description="of random baselines")
    verdicts: str | list[str] | None = Field(
        None, description="runs whose verdicts and removals to honour besides the own; or files of them"
    )
    video: VideoConfig
    mining: Node
    collect: Node
    replay: ReplayConfig

    @field_validator("class_names", mode="before")
    @classmethod
    def _one_name(cls, given: object) -> object:
        return (given,) if isinstance(given, str) else given


class DetectConfig(Strict):
    """``python -m hem.detect``."""

    output_dir: str = Field(..., description="where detections and overlays go")
    videos: str | list[str] = Field(..., description="file, folder, list")
    checkpoint: str = Field(..., description="a detector that hem trained")
    overlay: bool = Field(False, description="also write each video with its boxes drawn")
    overlay_score: float = Field(0.5, description="boxes below it are not drawn")
    floor_score: float = Field(0.05, ge=0, lt=1, description="detections below it are not kept")
    verdicts: str | None = Field(None, description="a hard_examples.parquet to draw as well")
    video: VideoConfig


class EvaluateConfig(Strict):
    """``python -m hem.evaluate``."""

    protocol: Node
    predictions: str | None = Field(None, description="what conf/protocol says under predictions_are")
    ground_truth: str | None = Field(None, description="what it says under ground_truth_is")
    checkpoint: str | None = Field(None, description="instead of predictions: a file, or a run's folder")
    data: Node | None = None
    videos: str | list[str] | None = Field(None, description="with checkpoint and protocol=video")
    video: VideoConfig = VideoConfig()
    output_dir: str = Field(..., description="where figures.json goes")


class ReportConfig(Strict):
    """``python -m hem.report``."""

    run_dir: str = Field(..., description="a finished run of hem.train")


class ReviewConfig(Strict):
    """``python -m hem.review``."""

    run_dir: str = Field(..., description="a run of hem.train, or output_dir of hem.mine")
    task: Literal["serve", "export", "import", "summary"] = Field("serve", description="what to do")
    host: str = Field("127.0.0.1", description="address to listen on; others can reach all but loopback")
    port: int = Field(8765, ge=0, le=65535, description="0 takes a free one")
    width: float = Field(
        0.1, gt=0, lt=1, description="wanted width of each 95 % interval; narrower needs more answers"
    )
    seed: int = Field(0, ge=0, description="which sample is shown")
    who: str = Field("", description="name kept with the answers")
    format: Literal["coco", "label_studio", "fiftyone"] = Field("coco", description="of export and import")
    file: str | None = Field(None, description="folder to export to, or file to import")
    sample: int = Field(200, ge=1, description="examples exported, in the order they would be shown")


class WhyConfig(Strict):
    """``hem why ID``."""

    example: str = Field(..., description="permanent id of a mined example, or its first characters")
    run_dir: str | None = Field(None, description="the run; without it every run under runs/ is searched")
    json_output: bool = Field(False, description="print JSON instead of words")


class DropConfig(Strict):
    """``hem drop ID|VIDEO|RULE``."""

    what: str = Field(..., description="id of an example, a video id, or a rule")
    run_dir: str = Field(..., description="run of hem.train, or output_dir of hem.mine")
    named: Literal["id", "video", "rule"] | None = Field(
        None, description="which of the three, where a name could be two"
    )
    reason: str = Field("", description="kept in the record")
    who: str = Field("", description="kept in the record; by default the name of the account")


class ConvertConfig(Strict):
    """``python -m hem.convert``."""

    data: Node
    output_dir: str = Field(..., description="where the COCO JSON goes")


class ExportConfig(Strict):
    """``python -m hem.export``."""

    replay: str = Field(
        ..., description="a replay round, the folder of an arm's rounds, or a run (of one such arm)"
    )
    format: Literal["coco", "yolo"] = Field("coco", description="of the copy")
    output_dir: str = Field(..., description="where the copy goes")


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
