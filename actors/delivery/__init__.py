"""Delivers notices to their receivers, and decides which notice may go now."""
