"""Detector `alibi.TabularDrift`: alibi-detect behind the protocol of detectors."""
