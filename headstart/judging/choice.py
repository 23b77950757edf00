"""The winner's choice: by the validation metric alone.

The test split only reports, so the winner's interval is not flattered by the choice (Cawley and Talbot 2010, "On
Over-fitting in Model Selection").
"""

import math
from collections.abc import Sequence

from headstart.errors import HeadstartError
from headstart.judging.contenders import Contender


def choose(contenders: Sequence[Contender]) -> Contender:
    """The transfer strategy with the best validation metric, the earlier one where two are equal.

    Raises:
        HeadstartError: there is no transfer strategy, or a validation metric is not a number.
    """
    transfers = [each for each in contenders if each.kind == "transfer"]
    if not transfers:
        raise HeadstartError("No transfer strategy was evaluated; give the recipe at least one under `strategies`.")
    for each in contenders:
        if not math.isfinite(each.validation):
            raise HeadstartError(
                f"The validation metric of {each.strategy!r} is {each.validation}, so nothing can be chosen by it; "
                "see whether its training diverged."
            )
    return max(transfers, key=lambda each: each.validation)
