"""The names under which the record is kept; scripts and saved views rely on them."""

ROLE = "headstart.role"
STRATEGY = "headstart.strategy"
DATA_DIGEST = "headstart.data_digest"
MODEL_DIGEST = "headstart.model_digest"
SOURCE_MODEL = "headstart.source_model"
SOURCE_DIGEST = "headstart.source_digest"
PIPELINE_RUN = "headstart.pipeline_run"
REUSED_STEPS = "headstart.reused_steps"
REUSED_FROM = "headstart.reused_from"
REGISTERED = "headstart.registered"
CHOSEN = "headstart.chosen"
VERDICT = "headstart.verdict"
PROMOTION = "headstart.promotion"
# One tag a descendant, so that two that register at once cannot overwrite each other.
DESCENDANT_PREFIX = "headstart.descendant/"

CHAMPION = "champion"
CHALLENGER = "challenger"

# MLflow's own.
PARENT_RUN = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
EXPERIMENT_KIND = "mlflow.experimentKind"
