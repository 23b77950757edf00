"""A run's record, which the tests of the pipelines have too."""

from tests.pipelines.conftest import fresh, images, inverted, own, quick_compiler, unlabelled  # noqa: F401
