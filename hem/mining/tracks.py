"""Confident detections joined into tracks, afresh for every setting."""

import numpy as np
from numpy.typing import NDArray

from hem.mining.index import index_of
from hem.ops.linking import assign_links, tracks_from_links
from hem.structures.evidence import Evidence


def track_ids(evidence: Evidence, score_threshold: float, link_iou: float) -> NDArray[np.int64]:
    """Return int64 (N,): track of each detection at or above ``score_threshold``, -1 for the others.

    Links join distinct frames next to each other in one shot, by the assignment with the greatest
    summed IoU among pairs with IoU >= ``link_iou``. Nothing is linked across a cut or a damaged stretch.
    """
    index, found = index_of(evidence), evidence.detections
    key = (float(score_threshold), float(link_iou))
    if index.tracks is not None and index.tracks[0] == key:  # the last setting's: sweeps repeat it
        return index.tracks[1]
    kept = (found.scores >= score_threshold) & index.distinct[found.frame_index]
    pairs = index.adjacent
    use = (pairs.offset > 0) & (pairs.iou >= link_iou)
    use &= kept[pairs.first] & kept[pairs.second]
    at = np.flatnonzero(use)
    at = at[assign_links(pairs.first[at], pairs.second[at], pairs.iou[at])]
    track = tracks_from_links(pairs.first[at], pairs.second[at], len(found))
    tracks = np.where(kept, track, -1)
    index.tracks = (key, tracks)
    return tracks
