"""The small workspace and the stand-in for a cluster, which the tests of the pipelines have too."""

from tests.pipelines.cluster.conftest import (  # noqa: F401
    clock,
    compiled_once,
    kfp,
    nothing_of_the_machine,
)
from tests.pipelines.conftest import fresh, images, own, quick_compiler  # noqa: F401
