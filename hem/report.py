"""``python -m hem.report run_dir=DIR``: the report of a finished run again."""

from pathlib import Path
from typing import Any

from hem.compose import entry
from hem.config import ReportConfig, check
from hem.reporting.run_report import write_report
from hem.reporting.steps import Steps


@entry("report")
def main(values: dict[str, Any]) -> None:
    """Write ``report.html`` and ``plots/`` into the run directory.

    A report that is there stays where the videos are gone that its pictures came from.
    """
    config = check(ReportConfig, values)
    run = Path(config.run_dir)
    with Steps() as steps:
        report, _ = write_report(run, steps.say, again=True)
        steps.say(f"{run / 'report.html'}: {report.n_bytes / 1e6:.1f} MB, {report.examples} mined examples")


if __name__ == "__main__":
    main()
