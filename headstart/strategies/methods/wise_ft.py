"""wise_ft: the weights after fine-tuning are mixed with those before it (headstart/strategies/interpolation.py).

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

from typing import ClassVar

from headstart.strategies.section import ANY, FullTransfer


class WiseFineTuning(FullTransfer):
    signature: ClassVar = {"transfer": "full", "interpolate": ANY}
    short_for: ClassVar = {"transfer": "full", "interpolate": "auto"}


STRATEGY = WiseFineTuning
