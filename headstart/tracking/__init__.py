"""The MLflow record: runs, model registry, lineage, promotion and comparison.

All access uses `MlflowClient`, not the fluent API, whose global active run would determine where things are written.
"""
