"""The components, called one after the other as a pipeline calls them, without Kubeflow's runner."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kfp import dsl
from PIL import Image

from headstart.recipe.recipe import Recipe
from headstart.tracking.client import connect
from headstart.tracking.runs import PARENT_VARIABLE, new_parent
from headstart_components.close_record.component import close_record
from headstart_components.evaluate.component import evaluate
from headstart_components.finetune.component import finetune
from headstart_components.fit_baselines.component import fit_baselines
from headstart_components.prepare_data.component import prepare_data
from headstart_components.pretrain.component import pretrain
from headstart_components.register.component import register
from headstart_components.select_source.component import select_source
from tests.pipelines.cluster.backend import kept

OUTPUTS = {
    prepare_data: {"dataset": dsl.Dataset, "report": dsl.HTML},
    pretrain: {"model": dsl.Model, "metrics": dsl.Metrics},
    select_source: {"source": dsl.Model},
    finetune: {"model": dsl.Model},
    fit_baselines: {"fitted": dsl.Artifact},
    evaluate: {
        "winner": dsl.Model,
        "leaderboard": dsl.Artifact,
        "predictions": dsl.Dataset,
        "confusion": dsl.ClassificationMetrics,
        "metrics": dsl.Metrics,
        "report": dsl.HTML,
    },
    register: {},
    close_record: {},
}


@dataclass(frozen=True)
class Floor:
    """What the components made: outputs and returned value of each call by its name."""

    outputs: dict[str, dict[str, dsl.Artifact]]
    returned: dict[str, Any]
    call: Callable[..., Any]


def _write_stripes(folder: Path) -> Path:
    """Two classes of 20 grey pictures: stripes across and stripes down, under noise."""
    random = np.random.default_rng(0)
    stripes = np.zeros((8, 8))
    stripes[::2] = 200
    for label, pattern in (("across", stripes), ("down", stripes.T)):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(pattern + random.normal(0, 20, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Floor]:
    """The components, called in an order that the pipeline `transfer` allows: the source is registered late."""
    root = tmp_path_factory.mktemp("floor")
    data = _write_stripes(root / "data")
    recipe = Recipe.of(
        {
            "name": "stripes",
            "source": {"data": {"uri": str(data), "size": 8, "fingerprint": "a"}, "pretraining": {"epochs": 1}},
            "target": {"data": {"uri": str(data), "size": 8, "fingerprint": "a"}},
            "training": {"epochs": 1},
            "strategies": ["zero", "partial"],
            # Of stripes all models know all.
            "evaluation": {"combinations": [], "seeds": 2, "curve_training": False},
        }
    ).model_dump(mode="json", exclude_none=True)
    outputs: dict[str, dict[str, dsl.Artifact]] = {}
    returned: dict[str, Any] = {}

    def call(component: Any, call_name: str, **inputs: Any) -> dict[str, dsl.Artifact]:
        place = root / call_name
        place.mkdir()
        made = {key: kind(name=key, uri=str(place / key)) for key, kind in OUTPUTS[component].items()}
        returned[call_name] = component.python_func(**{"experiment": "stripes", **inputs}, **made)
        for key, artifact in made.items():
            artifact.metadata = kept(call_name, key, artifact.metadata)
        outputs[call_name] = made
        return made

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
        environment.chdir(root)
        client = connect()
        experiment = client.create_experiment("stripes", artifact_location=(root / "mlartifacts").as_uri())
        parent = new_parent(client, experiment, name="stripes-1", pipeline_run="stripes-1")
        environment.setenv(PARENT_VARIABLE, parent.id)
        source = recipe["source"]
        common = {"evaluation": recipe["evaluation"], "seed": 0}
        for role in ("source", "target"):
            call(prepare_data, f"prepare {role}", modality="image", role=role, data=recipe[role]["data"], seed=0)
        call(
            pretrain,
            "pretrain",
            pretraining=source["pretraining"],
            seed=0,
            dataset=outputs["prepare source"]["dataset"],
        )
        target = outputs["prepare target"]["dataset"]
        made = outputs["pretrain"]
        call(
            select_source,
            "select",
            candidates=[],
            pretrained=made["model"],
            seed=0,
            dataset=target,
        )
        chosen = outputs["select"]["source"]
        for strategy in recipe["strategies"]:
            call(
                finetune,
                strategy["name"],
                strategy=strategy,
                training=recipe["training"],
                dataset=target,
                source=chosen,
                **common,
            )
        call(
            fit_baselines,
            "baselines",
            baselines=["scratch", "classical"],
            training=recipe["training"],
            dataset=target,
            source=chosen,
            **common,
        )
        call(
            register,
            "register source",
            role="source",
            modality="image",
            seed=0,
            model=made["model"],
            source_data=source["data"],
            source_pretraining=source["pretraining"],
        )
        call(
            evaluate,
            "evaluate",
            dataset=target,
            source=chosen,
            pretrained=returned["register source"],
            models=[outputs[strategy["name"]]["model"] for strategy in recipe["strategies"]],
            baselines=outputs["baselines"]["fitted"],
            **common,
        )
        call(
            register,
            "register target",
            role="target",
            modality="image",
            model=outputs["evaluate"]["winner"],
            pretrained=returned["register source"],
            target_data=recipe["target"]["data"],
            **{key: recipe[key] for key in ("training", "strategies", "baselines")},
            **common,
        )
        yield Floor(outputs, returned, call)
