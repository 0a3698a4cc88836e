"""Re-encode a video, segment by segment, so that a killed task goes on where it was."""
