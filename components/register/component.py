"""register: a model becomes a version in the MLflow registry, with its lineage and what speaks for it."""

from headstart_components import component
from headstart_components.types import Input, Model


@component
def register(
    experiment: str,
    role: str,
    modality: str,
    seed: int,
    model: Input[Model],
    source_data: dict = {},
    source_pretraining: dict = {},
    source_candidates: list[str] = [],
    pretrained: str = "",
    target_data: dict = {},
    training: dict = {},
    strategies: list[dict] = [],
    baselines: list[str] = [],
    evaluation: dict = {},
) -> str:
    """Registers the bundle as the next version of `<experiment>-<role>`, once however often it runs, and returns the
    version's reference, pinned to its content. The sections of the recipe that the model depends on are kept with it.

    Args:
        experiment: the recipe's name.
        role: `source` or `target`; a target becomes the challenger.
        modality: what the samples are.
        seed: of everything random.
        model: the bundle, with the evidence for it.
        source_data: the recipe's source.data.
        source_pretraining: the recipe's source.pretraining.
        source_candidates: the recipe's source.candidates.
        pretrained: a further candidate, the source that this pipeline run pretrained.
        target_data: the recipe's target.data.
        training: the recipe's training.
        strategies: the recipe's strategies.
        baselines: the recipe's baselines.
        evaluation: the recipe's evaluation.
    """
    from pathlib import Path

    from headstart.artifacts import described
    from headstart.judging.evidence import EVIDENCE
    from headstart.recipe.recipe import Recipe
    from headstart.tracking.names import CHALLENGER, MODEL_DIGEST, REGISTERED
    from headstart.tracking.registration import register
    from headstart.tracking.runs import step_run

    candidates = [*source_candidates, pretrained] if pretrained else source_candidates
    sections = {
        "name": experiment, "modality": modality, "seed": seed, "source_data": source_data, "target_data": target_data,
        "source_pretraining": source_pretraining, "source_candidates": candidates, "training": training,
        "strategies": strategies, "baselines": baselines, "evaluation": evaluation,
    }  # fmt: skip
    with step_run(experiment, f"register-{role}", role=role) as run:
        registered = register(
            run, Path(model.path), model=f"{experiment}-{role}", evidence=Path(model.path) / EVIDENCE,
            recipe=Recipe.of_sections(sections).to_dict(), trained_by=described(model)["run_id"],
            aliases=(CHALLENGER,) if role == "target" else (),
        )  # fmt: skip
        run.set_tags({MODEL_DIGEST: registered.digest, REGISTERED: registered.uri})
    return registered.reference
