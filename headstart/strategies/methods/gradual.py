"""gradual: after a linear probe, the head trains alone, then the last stage too, then the one before it, and so on.

One more joins every `Plan.unfreeze_every` epochs: what is general changes last (Howard and Ruder, "Universal language
model fine-tuning for text classification", ACL 2018, section 3.3).
"""

from typing import ClassVar

from headstart.strategies.section import FullTransfer


class GradualUnfreezing(FullTransfer):
    signature: ClassVar = {"transfer": "full", "schedule": "gradual"}
    short_for: ClassVar = {**signature, "layer_decay": 0.7}


STRATEGY = GradualUnfreezing
