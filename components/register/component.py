"""register: a model becomes a version in the MLflow registry, with its lineage."""

from kfp import dsl
from kfp.dsl import Input, Model

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(experiment: str, role: str, description: str, model: Input[Model]) -> str:
    """Registers the bundle as the next version of `<experiment>-<role>`, once however often it runs.

    Args:
        experiment: the recipe's name.
        role: `source` or `target`; a target becomes the challenger.
        description: what the version is, in Markdown; the verdict is added to it.
        model: the bundle.

    Returns:
        The version's reference, pinned to its content.
    """
    from pathlib import Path

    from headstart.tracking.names import CHALLENGER, MODEL_DIGEST, REGISTERED
    from headstart.tracking.registry import register
    from headstart.tracking.runs import step_run

    with step_run(experiment, f"register-{role}", role=role) as run:
        registered = register(
            run,
            Path(model.path),
            model=f"{experiment}-{role}",
            trained_by=model.metadata["run_id"],
            description="\n\n".join(filter(None, [description, model.metadata.get("verdict")])),
            aliases=(CHALLENGER,) if role == "target" else (),
        )
        run.set_tags({MODEL_DIGEST: registered.digest, REGISTERED: registered.uri})
    return registered.reference
