"""Schema of sweeps: what is searched, how, and by which figure."""

from typing import Literal

from pydantic import Field, model_validator

from hem.config import Strict

Scalar = bool | int | float | str


class SettingConfig(Strict):
    """The values of one setting that a sweep tries: choices, or a range."""

    choices: tuple[Scalar, ...] | None = Field(None, description="these values")
    low: float | None = Field(None, description="lower end of a range, included")
    high: float | None = Field(None, description="upper end of a range, included")
    step: float | None = Field(None, gt=0, description="only multiples of it above low; whole makes it whole")
    log: bool = Field(False, description="evenly in the logarithm")

    @model_validator(mode="after")
    def _one_of_both(self) -> "SettingConfig":
        is_range = self.low is not None and self.high is not None
        if (self.choices is None) != is_range or (self.choices is not None and not self.choices):
            raise ValueError("give either choices=[…] or both low and high")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and (self.step is not None or (self.low is not None and self.low <= 0)):
            raise ValueError("log needs low > 0 and no step")
        return self


class SweepFile(Strict):
    """A file of ``conf/sweep``, or one of your own."""

    overrides: tuple[str, ...] = Field((), description="settings of hem.train that every run shares")
    objective: str = Field(..., description="a name of hem.reporting.objectives, or arm.figure")
    objective_yield: int = Field(100, ge=1)
    direction: Literal["minimize", "maximize"] | None = Field(
        None, description="needed for arm.figure alone; a named objective knows its own"
    )
    space: dict[str, SettingConfig] = Field(..., min_length=1, description="key of hem.train -> values")
    trials: int = Field(20, ge=1, description="settings tried, pruned ones included")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="runs of each trial; the mean counts")
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    sampler_seed: int = Field(0, ge=0)
    pruner: Literal["median", "halving", "none"] = Field(
        "median", description="ends a trial between its seeds when it falls behind; needs two seeds or more"
    )
    startup_trials: int = Field(5, ge=0, description="trials that are never pruned and drawn at random")


class SweepArguments(Strict):
    """``python -m hem.sweep SWEEP``."""

    sweep: str = Field(..., description="name of a file in conf/sweep, or a path")
    output_dir: str | None = Field(None, description="default runs/sweeps/<name>")
    trials: int | None = Field(
        None, ge=1, description="settings tried in all, those of earlier calls included"
    )
    overrides: tuple[str, ...] = Field((), description="after -- : more settings of hem.train for every run")


class SweepSummaryArguments(Strict):
    """``hem sweep summary dir=DIR``."""

    dir: str = Field(..., description="a folder of runs: of hem.train -m, of hem.sweep, or any other")
    objective: str | None = Field(None, description="default: what the runs were given")
    direction: Literal["minimize", "maximize"] | None = None
    objective_yield: int | None = Field(None, ge=1)
