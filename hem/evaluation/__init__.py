"""Benchmark protocols, video figures, purity of what was mined, paired comparison."""
