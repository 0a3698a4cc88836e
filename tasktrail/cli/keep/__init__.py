"""Commands that keep the log safe."""
