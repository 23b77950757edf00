"""Transfer: pretraining a source, choosing one, moving it to the target by a strategy, and what it has to beat."""
