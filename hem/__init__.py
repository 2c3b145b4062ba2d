"""Hard examples from video: detect once, keep the evidence, mine by query, replay with weights."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["__version__", "mine_videos"]

if TYPE_CHECKING:
    from hem.api import mine_videos


def __getattr__(name: str) -> object:
    """Import the Python interface when it is first asked for: decoder processes start without torch."""
    if name == "mine_videos":
        from hem.api import mine_videos

        return mine_videos
    raise AttributeError(f"module 'hem' has no attribute {name!r}")
