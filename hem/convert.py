"""``python -m hem.convert``: a labelled dataset in any format that hem reads, as COCO JSON."""

from pathlib import Path
from typing import Any

from hem.artifacts.places import require_writable
from hem.compose import entry
from hem.config import ConvertConfig, check
from hem.data.base import DetectionDataset
from hem.data.bundle import DataBundle
from hem.data.convert import to_coco_json, to_miss_rate_json
from hem.errors import HemError
from hem.instantiate import instantiate
from hem.reporting.steps import Steps


@entry("convert")
def main(values: dict[str, Any]) -> None:
    """Write ``train.json`` and ``test.json`` into ``output_dir``."""
    convert(check(ConvertConfig, values))


def convert(config: ConvertConfig) -> None:
    """Write ``train.json`` and ``test.json`` into ``output_dir``.

    For Caltech and CityPersons also ``miss_rate_{train,test}.json``, the ground truth of protocol=miss_rate.
    """
    require_writable(Path(config.output_dir), "output_dir")
    bundle: DataBundle = instantiate(config.data, "data", DataBundle)
    with Steps() as steps:
        for name, part in (("train", bundle.train), ("test", bundle.test)):
            if not isinstance(part, DetectionDataset):
                raise HemError(f"data.{name} is not a dataset that hem reads from files")
            path = Path(config.output_dir) / f"{name}.json"
            counts = to_coco_json(part, path)
            steps.say(f"{path}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
            if part.skips.counts:
                steps.say(f"left out or changed: {part.skips}")
            if "pedestrians" in part.record(0).extra:
                whole = path.with_name(f"miss_rate_{name}.json")
                steps.say(f"{whole}: {to_miss_rate_json(part, whole)} pedestrians")


if __name__ == "__main__":
    main()
