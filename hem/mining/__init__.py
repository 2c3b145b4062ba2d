"""From detections to evidence, and from evidence to hard examples."""
