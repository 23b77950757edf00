"""Names of tags, aliases and artifacts in MLflow; scripts and saved views rely on them."""

ROLE = "headstart.role"
STRATEGY = "headstart.strategy"
DATA_DIGEST = "headstart.data_digest"
TRAIN_DIGEST = "headstart.train_digest"
TEST_DIGEST = "headstart.test_digest"
MODEL_DIGEST = "headstart.model_digest"
SOURCE_MODEL = "headstart.source_model"
SOURCE_DIGEST = "headstart.source_digest"
PIPELINE_RUN = "headstart.pipeline_run"
# The process that owns a pipeline run on a person's machine: the run ends when it ends.
OWNER_MACHINE = "headstart.owner.machine"
OWNER_PROCESS = "headstart.owner.process"
# A unique mark on each created run, which detects that a repeated request has created two.
CREATION = "headstart.creation"
REUSED_STEPS = "headstart.reused_steps"
REUSED_FROM = "headstart.reused_from"
REGISTERED = "headstart.registered"
# On a run that a test split has decided, or a promotion that it was asked for: the split's digest.
LOOK = "headstart.look"
CHOSEN = "headstart.chosen"
VERDICT = "headstart.verdict"
# On a pipeline run: the contender whose model it hands over, and the strategies that tie for the best.
DELIVERED = "headstart.delivered"
TIES = "headstart.ties"
# On a combination: the strategies of which it is formed.
MEMBERS = "headstart.members"
# On a strategy with the same predictions as another one: the name of that one.
SAME_AS = "headstart.same_as"
SENTENCE = "headstart.sentence"
# The facts that stand beside the verdict, a line each.
FACTS = "headstart.facts"
PROMOTION = "headstart.promotion"
# On a trial of a search: complete, pruned or failed.
TRIAL_STATE = "headstart.trial.state"
# On a search that a cluster carries out: its key, by which the pods of its trials find it. On such a trial: the id of
# its run in Kubeflow Pipelines. Not the tag that makes a parent, whose end would be that of the pipeline run.
SEARCH = "headstart.search"
TRIAL_RUN = "headstart.trial.run"
# On a run with the role `promotion`, which records one change of a model's champion.
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
# On a registered model and on the records of its changes: the run whose parameters hold the order of the changes.
LEDGER = "headstart.ledger"
# Prefix of one tag for each descendant, so that concurrent registrations cannot overwrite each other.
DESCENDANT_PREFIX = "headstart.descendant/"

CHAMPION = "champion"
CHALLENGER = "challenger"

# Artifacts of a pipeline run's parent: the complete leaderboard (the table leaderboard.json is its view in MLflow's
# page) and the report with the verdict.
LEADERBOARD = "assessment.json"
REPORT = "report.html"

# Set by KFP's MLflow plugin on the run that it opens for a pipeline run: the id of the latter.
PLUGIN_PIPELINE_RUN = "kfp.pipeline_run_id"

# Tags of MLflow's own.
PARENT_RUN = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
EXPERIMENT_KIND = "mlflow.experimentKind"
USER = "mlflow.user"
SOURCE_NAME = "mlflow.source.name"
RUN_NAME = "mlflow.runName"
