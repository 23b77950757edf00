"""Metrics, their intervals, calibration and the predictions that they are computed from."""
