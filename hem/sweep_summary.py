"""``hem sweep summary dir=DIR``: compare the finished runs of a sweep, and write the best as a file."""

from pathlib import Path

from hem.arguments import command
from hem.config_sweep import SweepSummaryArguments
from hem.reporting.steps import Steps
from hem.reporting.sweep_runs import read_sweep
from hem.reporting.sweep_summary import FOLDER, sweep_table, write_summary


@command(SweepSummaryArguments, "hem sweep summary dir=DIR [objective=NAME]", positional="dir")
def main(config: SweepSummaryArguments) -> None:
    """Print a table of the runs under a folder, best first, and write pictures and the best configuration."""
    root = Path(config.dir)
    with Steps() as steps:
        sweep = read_sweep(root, config.objective, config.direction, config.objective_yield)
        best = write_summary(root, sweep)
        steps.show(sweep_table(sweep))
        steps.say(f"pictures and sweep.json are in {root / FOLDER}")
        steps.say(f"no run has {sweep.objective}" if best is None else f"run the best again with: {best}")


if __name__ == "__main__":
    main()
