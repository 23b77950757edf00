"""mlm: a source of texts or sequences learns to guess tokens that are hidden from it, without labels, to the last
epoch.

Of each sample 15% of the tokens are to be guessed (Devlin et al., "BERT: pre-training of deep bidirectional
transformers for language understanding", NAACL 2019); other ones are hidden in every epoch (Liu et al. 2019,
"RoBERTa"). What makes guesses of the tokens' states is thrown away after training.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from headstart.training.objective import PretrainingObjective

if TYPE_CHECKING:
    from headstart.data.dataset import Dataset
    from headstart.models.bundle import ModelBundle
    from headstart.training.context import RunContext
    from headstart.training.plan import Plan
    from headstart.training.trained import Trained


def learn_tokens(bundle: "ModelBundle", dataset: "Dataset", plan: "Plan", context: "RunContext") -> "Trained":
    """Labels have no part in it, whether or not the data set has them: the same texts give the same weights."""
    from headstart.training.masked_tokens import Masking, fit_masked_tokens

    return fit_masked_tokens(bundle, dataset, plan, context, Masking())


OBJECTIVE = PretrainingObjective(
    learn_tokens,
    learns_labels=False,
    plan=lambda plan: replace(plan, augmentation="none", patience=plan.epochs, compile="off"),
    no_meaning=("label_smoothing", "class_weights", "augmentation", "patience", "compile"),
    reason="which reads no labels, hides tokens instead of augmenting, trains to the end and is not compiled",
)
