"""What a model is worth on data that neither trained nor selected it: metrics, uncertainty, ranking, report."""
