"""full: every source weight is a start and is trained on, all at once.

With `schedule: constant` it starts from the source's head where that knows every class of the target, and from a new
one elsewhere; with `auto` so or as `lp_ft`, by the number of samples (headstart/strategies/schedule.py).
"""

from typing import ClassVar

from headstart.strategies.section import FullTransfer


class Full(FullTransfer):
    signature: ClassVar = {"transfer": "full"}
    short_for: ClassVar = signature
    in_every_recipe: ClassVar = {"transfer": "full"}


STRATEGY = Full
