"""From the command line to checked values: the only module, with the entry points, that knows Hydra."""

import re
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from hem.config import suggest
from hem.errors import HemError
from hem.signals import EXIT_INTERRUPTED, Terminated, ending_on_sigterm, ending_with_the_reader

EXIT_USER_ERROR = 2
_KEPT = "what was finished is kept, and the same command goes on from there"


def conf_dir() -> Path:
    """Return the configuration folder: a checkout's own ``conf/`` wins over the copy in a wheel."""
    package = Path(__file__).resolve().parent
    for candidate in (package.parent / "conf", package / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise HemError(f"no conf/ beside or inside {package}: hem is not installed completely")


def entry(name: str) -> Callable[[Callable[[dict[str, Any]], Any]], Callable[[], Any]]:
    """Make a command of a function that takes the composed configuration as plain values.

    A HemError ends the command with its message alone and exit status 2, and so do a key that does
    not exist and a file that cannot be written or read; an interrupt ends it with status 130, and
    SIGTERM with 143, what was begun being put in order first.
    ``--help`` explains every setting; ``-sc install=bash`` gives completion.
    """

    def decorate(work: Callable[[dict[str, Any]], Any]) -> Callable[[], Any]:
        def task(config: DictConfig) -> Any:  # noqa: ANN401
            try:
                with ending_on_sigterm(), ending_with_the_reader():
                    return work(plain(config))
            except HemError as error:
                _end(error)
            except OSError as error:
                if error.filename is None:  # not of a file
                    raise
                _end(HemError(f"{error.filename}: {error.strerror}"))
            except KeyboardInterrupt:
                print(f"hem: interrupted; {_KEPT}", file=sys.stderr, flush=True)
                raise SystemExit(EXIT_INTERRUPTED) from None
            except Terminated:
                print(f"hem: terminated; {_KEPT}", file=sys.stderr, flush=True)
                raise

        task.__module__ = work.__module__
        run = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(task)

        @ending_with_the_reader()
        def main() -> Any:  # noqa: ANN401
            from hem.command_line import answered, signed  # it needs this module

            try:
                if answered(name, sys.argv[1:], (work.__doc__ or "").strip()):
                    return None
                sys.argv[1:] = signed(name, sys.argv[1:])
                _try_places(sys.argv[1:])
                return run()
            except HemError as error:
                _end(error)
            except KeyboardInterrupt:  # before the task began, or in what Hydra does behind it
                print("hem: interrupted", file=sys.stderr, flush=True)
                raise SystemExit(EXIT_INTERRUPTED) from None

        main.__doc__ = work.__doc__
        return main

    return decorate


def _try_places(arguments: Sequence[str]) -> None:
    """Raise HemError for a folder that Hydra could not make for a run, which it would say by a traceback."""
    for key, _, value in (word.lstrip("+").partition("=") for word in arguments):
        if key in ("hydra.run.dir", "hydra.sweep.dir") and value and "${" not in value:
            from hem.artifacts.places import require_writable  # dear to import

            require_writable(Path(value.strip("'\"")), key)


def _end(error: HemError) -> NoReturn:
    print(f"hem: {error}", file=sys.stderr, flush=True)
    raise SystemExit(EXIT_USER_ERROR) from None


def plain(config: DictConfig) -> dict[str, Any]:
    """Return a composed configuration as plain values, interpolations resolved.

    Raises:
        HemError: naming a value that is still ``???`` or an interpolation that leads nowhere.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise HemError("configuration: give " + ", ".join(f"{key}=…" for key in missing))
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise _leads_nowhere(error) from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _leads_nowhere(error: OmegaConfBaseException) -> HemError:
    """Say which setting a file takes from another one that this command does not have."""
    first = str(error).splitlines()[0]
    found = re.search(r"'(.+)'", first)
    key = error.full_key
    if not (isinstance(error, InterpolationKeyError) and key and found):
        return HemError(f"configuration: {first}")
    return HemError(
        f"configuration: {key} is taken from the setting {found[1]}, which this command does not have: "
        f"give {key}=…"
    )


def group_file(group: str, name: str) -> dict[str, Any]:
    """Return the plain content of ``conf/<group>/<name>.yaml``, without its defaults list.

    Raises:
        HemError: if there is no such file; the message names those that exist.
    """
    folder = conf_dir() / group
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise HemError(f"configuration: no {group}/{name}{suggest(name, known)}")
    path = folder / f"{name}.yaml"
    return deepcopy(_content(path, path.stat().st_mtime_ns))


@lru_cache(maxsize=64)
def _content(path: Path, changed_ns: int) -> dict[str, Any]:
    """Return what a file holds, read once for as long as it is not changed."""
    loaded = OmegaConf.load(path)
    assert isinstance(loaded, DictConfig)
    values = plain(loaded)
    values.pop("defaults", None)
    return values
