"""Detectors `ks` and `chi2`: univariate drift tests of our own, on scipy."""
