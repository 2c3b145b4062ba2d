"""Videos: finding them, decoding them, streaming their frames."""
