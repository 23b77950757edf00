"""A run's record, which the tests of the pipelines have too."""

from tests.pipelines.conftest import fresh, images, own, quick_compiler  # noqa: F401
