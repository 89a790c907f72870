"""Detectors of our own, on numpy and scipy: each gives p-values that hold, or alarms of a known rate."""
