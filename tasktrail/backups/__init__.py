"""Backups of a data folder: taken while the service runs, checked, and put back."""
