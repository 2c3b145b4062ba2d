"""Everything that is written to disk between stages: atomic, versioned, with digests."""

from hem.artifacts.detections import load_detections, save_detections
from hem.artifacts.examples import load_examples, save_coco, save_examples
from hem.artifacts.files import (
    alone,
    digest_of,
    made_folder,
    read_json,
    read_table,
    remove_parts,
    sha256_file,
    sha256_known,
    whole_directory,
    whole_file,
    write_json,
    write_table,
)

__all__ = [
    "alone",
    "digest_of",
    "load_detections",
    "load_examples",
    "made_folder",
    "read_json",
    "read_table",
    "remove_parts",
    "save_coco",
    "save_detections",
    "save_examples",
    "sha256_file",
    "sha256_known",
    "whole_directory",
    "whole_file",
    "write_json",
    "write_table",
]
