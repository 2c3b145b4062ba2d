"""The embedded world: labelled stills and unlabelled video that one seed makes anywhere, offline.

Faces and cars are drawn from shaded parts with random looks, poses and light, among things that
share parts with them. Stills look like photographs; videos come from a poorer camera that pans,
shakes, loses focus and cuts, and are then compressed. No error of any detector is planted: what
flickers or gets lost does so because of what is seen.
"""

from hem.data.world.build import Progress, load_world, make_world, raw_frames
from hem.data.world.spec import CLASS_NAMES, WORLD_VERSION, World, WorldSpec

__all__ = [
    "CLASS_NAMES",
    "WORLD_VERSION",
    "Progress",
    "World",
    "WorldSpec",
    "load_world",
    "make_world",
    "raw_frames",
]
