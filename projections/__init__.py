"""Answers kept ready: folds of the log into views that can be deleted and rebuilt at will."""
