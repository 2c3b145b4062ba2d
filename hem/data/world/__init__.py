"""The parts of the embedded world: procedural objects, scenes, cameras and the files they become."""
