"""Mined frames as a weighted, partly labelled dataset."""
