"""``python -m hem.review run_dir=DIR``: judge mined examples by eye, and measure how pure they are."""

from itertools import islice
from pathlib import Path
from typing import Any

from rich.table import Table

from hem.artifacts.rulings import VERDICTS
from hem.compose import entry
from hem.config import ReviewConfig, check
from hem.errors import HemError
from hem.reporting.review_export import export_sample
from hem.reporting.review_pictures import Pictures
from hem.reporting.review_server import ReviewServer
from hem.reporting.review_session import Session, table_rows, verdict_of
from hem.reporting.review_source import read_reviewable
from hem.reporting.steps import Steps
from hem.reviewing.formats import read_answers


@entry("review")
def main(values: dict[str, Any]) -> None:
    """Serve the page, export a sample, take answers of another tool in, or print what is known."""
    config = check(ReviewConfig, values)
    source = read_reviewable(Path(config.run_dir))
    session = Session(source, width=config.width, seed=config.seed, who=config.who)
    with Steps() as steps:
        if config.task == "serve":
            _serve(config, session, steps)
        elif config.task == "export":
            _export(config, session, steps)
        elif config.task == "import":
            _import(config, session, steps)
        steps.show(purity_table(session))
        if session.log.standing:
            steps.say(
                f"verdicts are in {session.log.path}; hem.train and hem.mine honour them when they write to "
                f"{config.run_dir} again, and elsewhere with verdicts={config.run_dir}"
            )


def _serve(config: ReviewConfig, session: Session, steps: Steps) -> None:
    pictures = Pictures(session.source, Path(config.run_dir) / VERDICTS.parent / "pictures")
    title = f"Review of {Path(config.run_dir).resolve().name}"
    with ReviewServer(session, pictures, config.host, config.port, title) as server:
        pictures.prepare(session.coming(pictures.ahead))
        steps.say(f"open {server.address}")
        if config.host not in ("127.0.0.1", "localhost", "::1"):
            steps.say(f"listening on {config.host}: whoever has this address can answer")
        steps.say("Ctrl-C ends it; every answer is kept at once")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            steps.say("")


def _file(config: ReviewConfig) -> Path:
    if config.file is None:
        raise HemError(f"task={config.task} needs file=PATH")
    return Path(config.file)


def _export(config: ReviewConfig, session: Session, steps: Steps) -> None:
    folder = _file(config)
    ids = list(islice(session.sample.upcoming(()), config.sample))  # answered ones too, with their answers
    examples = [session.sample.examples[one] for one in ids]
    answers = {example_id: one.answer for example_id, one in session.log.standing.items()}
    files = export_sample(folder, config.format, session.source, examples, answers)
    steps.say(f"{len(examples)} examples in {folder}: {', '.join(files)}")


def _import(config: ReviewConfig, session: Session, steps: Steps) -> None:
    path = _file(config)
    answers = read_answers(path, config.format)
    known = {one: answer for one, answer in answers.items() if one in session.sample.strata}
    if not known:
        raise HemError(f"{path}: none of its {len(answers)} examples was mined in {config.run_dir}")
    standing = session.log.standing
    new = {one: a for one, a in known.items() if one not in standing or standing[one].answer is not a}
    examples = session.sample.examples
    session.log.add(
        [verdict_of(examples[one], a, config.who, config.format) for one, a in new.items()], "import"
    )
    left_out = len(answers) - len(known)
    note = f"; {left_out} are not of this run and were left out" if left_out else ""
    steps.say(f"{len(new)} answers taken from {path}, {len(known) - len(new)} were known{note}")


def purity_table(session: Session) -> Table:
    """Return what is known of each kind and rule as a table."""
    table = Table(title="Purity by the answers so far")
    for heading in ("kind", "rule", "mined", "right", "wrong", "unsure", "purity, 95 % interval", "enough?"):
        table.add_column(heading, justify="left" if heading in ("kind", "rule") else "right", overflow="fold")
    for row in table_rows(session.purities()):
        table.add_row(*row)
    table.caption = f"wanted width of each interval: {session.width}"
    return table


if __name__ == "__main__":
    main()
