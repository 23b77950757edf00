"""The middle floor, which pods run: one folder a step, a thin Kubeflow component each.

A component maps artifacts and parameters to calls of the library and their results back to artifacts. It imports the
library inside its body, so that compiling a pipeline loads none of it.
"""

import os
from collections.abc import Callable
from typing import Any

from headstart.version import __version__

# The image that every step runs in unless a profile or --image names another.
IMAGE = f"headstart:{__version__}"

# As KFP starts a lightweight component: its executor, which start.py runs, wants the source as a file.
_START = """step=$(mktemp -d)/step.py
printf %s "$0" >"$step"
_KFP_RUNTIME=true python3 -m headstart_components.start kfp.dsl.executor_main --component_module_path "$step" "$@"
"""


def component(function: Callable[..., Any]) -> Any:
    """Makes `function` a component of Kubeflow Pipelines; inside of a step it stays the function.

    The source that a package carries is one import of the function, which the image has. KFP hands source and
    descriptions from driver to pod, and Argo keeps each of these copies in the run's workflow, whose size is limited:
    so the documentation stays behind, too, and what starts the source is as short as it can be.
    """
    if os.environ.get("_KFP_RUNTIME") == "true":
        from headstart_components.executor import without_optional

        # The backend hands an artifact over without its type, and KFP's executor then calls what it is annotated with.
        for name, annotation in function.__annotations__.items():
            function.__annotations__[name] = without_optional(annotation)
        return function
    from kfp import dsl

    documentation, function.__doc__ = function.__doc__, None
    made = dsl.component(function, base_image=IMAGE, install_kfp_package=False)
    function.__doc__ = documentation
    source = f"from {function.__module__} import {function.__name__}\n"
    made.component_spec.implementation.container.command = ["sh", "-ec", _START, source]
    return made
