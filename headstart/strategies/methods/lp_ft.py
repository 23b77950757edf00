"""lp_ft: a linear probe comes first and becomes the head, and then every weight is trained.

A random head would distort the features (Kumar et al., "Fine-tuning can distort pretrained features and underperform
out-of-distribution", ICLR 2022).
"""

from typing import ClassVar

from headstart.strategies.section import FullTransfer


class LinearProbeThenFineTuning(FullTransfer):
    signature: ClassVar = {"transfer": "full", "schedule": "lp_ft", "interpolate": None}
    short_for: ClassVar = {"transfer": "full", "schedule": "lp_ft"}
    in_every_recipe: ClassVar = {"name": "full-l2sp", "transfer": "full", "schedule": "lp_ft", "regularizer": "l2_sp"}


STRATEGY = LinearProbeThenFineTuning
