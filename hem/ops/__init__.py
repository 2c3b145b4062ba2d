"""Pure functions on tensors and arrays: boxes, template matching, linking, isolation."""
