"""What a component is given on a cluster, where an artifact comes without its type."""

import os
import subprocess
import sys

# In a process of its own, as a step is: there a component is the function that KFP's executor calls.
PROGRAM = """
import importlib, pkgutil
from kfp.dsl.executor import Executor
from kfp.dsl.types.type_annotations import is_Input_Output_artifact_annotation as is_artifact
from kfp.dsl.types.type_annotations import maybe_strip_optional_from_annotation as present
import headstart_components

count = 0
for module in pkgutil.iter_modules(headstart_components.__path__):
    if not module.ispkg:
        continue
    function = getattr(importlib.import_module(f"headstart_components.{module.name}.component"), module.name)
    names = [name for name, annotation in function.__annotations__.items() if is_artifact(present(annotation))]
    given = {name: {"artifacts": [{"name": "7", "uri": "/tmp/x", "metadata": {}}]} for name in names}
    executor = Executor({"inputs": {"artifacts": given}, "outputs": {"outputFile": "/tmp/x"}}, function)
    assert executor.input_artifacts.keys() == given.keys(), module.name
    count += len(given)
print(count, "artifacts")
"""


def test_every_artifact_that_a_component_takes_may_come_without_its_type():
    environment = {**os.environ, "_KFP_RUNTIME": "true"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 10
