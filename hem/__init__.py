"""Hard examples from video: detect once, keep the evidence, mine by query, replay with weights."""

__version__ = "0.1.0"
