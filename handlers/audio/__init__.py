"""The task type for sound."""
