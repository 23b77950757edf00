"""Kinds of steps, by their components' names, and what all steps have in common."""

# Steps that train networks.
TRAINING_STEPS = frozenset({"pretrain", "finetune", "fit-baselines", "trial"})
# Steps that load each candidate's network in one process, to run it over the whole training split or to look at its
# stages, before the rest can start.
SELECTION_STEPS = frozenset({"select-source", "survey"})
# Steps that decode, count, write pages and talk to MLflow: an accelerator would be idle and blocked for others.
LIGHT_STEPS = frozenset({"prepare-part", "prepare-data", "evaluate", "register", "close-record", "monitor", "alarm"})

# Iterations that a thread of GNU's OpenMP polls for work before it sleeps. Its default, 300,000, slows down working
# threads if a CPU limit or a neighbour takes their core: docs/studies/openmp-spin-count.md.
SPIN_COUNT = "10000"
