"""Making the mining of a run honour what people decided: verdicts of reviews, and removals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hem.artifacts.rulings import digest_of_rulings, gather_rulings
from hem.mining.presets import Preset
from hem.mining.score_scale import ScoreScale
from hem.ops.rulings import honour
from hem.structures import HardExample, Rulings
from hem.structures.evidence import Evidence

if TYPE_CHECKING:
    from hem.training.experiment import Parts


@dataclass(frozen=True)
class Honouring(Preset):
    """A preset whose examples are corrected by what people decided; see hem.ops.rulings."""

    preset: Preset
    rulings: Rulings

    def mine(
        self, evidence: Sequence[Evidence], *, seed: int = 0, calibrated: ScoreScale | None = None
    ) -> Sequence[HardExample]:
        """See Preset.mine."""
        found = self.preset.mine(evidence, seed=seed, calibrated=calibrated)
        return honour(found, self.rulings)


def paths(given: str | Sequence[str] | None) -> list[Path]:
    """Return a configured path, list of paths or nothing as paths."""
    return [Path(one) for one in ([given] if isinstance(given, str) else given or [])]


def honouring(parts: "Parts", run: Path, say: Callable[[str], None]) -> "Parts":
    """Return parts in which every arm's mining honours the run's rulings, in all its rounds.

    They are read once, when the run starts: an answer given later counts from the next run on, and
    changes the key of every arm that mines, so no older result is ever taken for it.

    Raises:
        HemError: if a record is damaged, or a verdict file that was named is not there.
    """
    rulings = gather_rulings(run, paths(parts.config.verdicts))
    if not rulings:
        return parts
    say(f"honours {len(rulings.verdicts)} verdicts and {len(rulings.drops)} removals")
    digest = digest_of_rulings(rulings)
    return replace(
        parts,
        presets={name: Honouring(preset, rulings) for name, preset in parts.presets.items()},
        preset_settings={
            name: {**settings, "rulings": digest} for name, settings in parts.preset_settings.items()
        },
    )
