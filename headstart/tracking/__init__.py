"""The record in MLflow: runs, the registry, lineage, promotion and comparison.

Everything goes through `MlflowClient`: the fluent API's global active run would decide by itself where things go.
"""
