"""Keeps up with the log of a service on another machine: readers and standbys."""
