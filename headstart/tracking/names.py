"""The names under which the record is kept; scripts and saved views rely on them."""

ROLE = "headstart.role"
STRATEGY = "headstart.strategy"
DATA_DIGEST = "headstart.data_digest"
TRAIN_DIGEST = "headstart.train_digest"
TEST_DIGEST = "headstart.test_digest"
MODEL_DIGEST = "headstart.model_digest"
SOURCE_MODEL = "headstart.source_model"
SOURCE_DIGEST = "headstart.source_digest"
PIPELINE_RUN = "headstart.pipeline_run"
# The process whose end is that of a pipeline run on a person's machine.
OWNER_MACHINE = "headstart.owner.machine"
OWNER_PROCESS = "headstart.owner.process"
# A request's own mark on the run that it made, by which one that was sent twice is noticed.
CREATION = "headstart.creation"
REUSED_STEPS = "headstart.reused_steps"
REUSED_FROM = "headstart.reused_from"
REGISTERED = "headstart.registered"
CHOSEN = "headstart.chosen"
VERDICT = "headstart.verdict"
# Of a strategy that predicts the same as another: that one's name.
SAME_AS = "headstart.same_as"
SENTENCE = "headstart.sentence"
PROMOTION = "headstart.promotion"
# Of a run with the role `promotion`: one change of a model's champion.
CHANGE_KIND = "headstart.change.kind"
CHANGED_MODEL = "headstart.change.model"
CHANGED_FROM = "headstart.change.from"
CHANGED_TO = "headstart.change.to"
CHANGED_AT = "headstart.change.at"
CHANGED_BY = "headstart.change.by"
CHANGE_REASON = "headstart.change.reason"
CHANGE_FORCED = "headstart.change.forced"
CHANGE_GATES = "headstart.change.gates"
CHANGE_ENTRY = "headstart.change.entry"
# Of a registered model and of its changes: the run whose parameters hold the order of the changes.
LEDGER = "headstart.ledger"
# One tag a descendant, so that two that register at once cannot overwrite each other.
DESCENDANT_PREFIX = "headstart.descendant/"

CHAMPION = "champion"
CHALLENGER = "challenger"

# Of KFP's MLflow plugin: the id of the pipeline run, on the run that it opened for it.
PLUGIN_PIPELINE_RUN = "kfp.pipeline_run_id"

# MLflow's own.
PARENT_RUN = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
EXPERIMENT_KIND = "mlflow.experimentKind"
USER = "mlflow.user"
SOURCE_NAME = "mlflow.source.name"
RUN_NAME = "mlflow.runName"
