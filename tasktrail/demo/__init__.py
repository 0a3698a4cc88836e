"""The demo: the main job on real input, with a kill in the middle."""
