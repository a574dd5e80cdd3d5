"""Measuring: how fast a training step is, against what the hardware allows and against other implementations."""
