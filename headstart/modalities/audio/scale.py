"""The scale of stored maps: dB of full scale as values of one byte."""

FLOOR = -100.0
"""dB of full scale that are stored as 0; 0 dB are stored as 255."""

STEP = -FLOOR / 255
"""dB between two stored values."""
