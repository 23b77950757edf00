import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes_validate import utils as kubernetes_schemas

from tests.infra.manifests import NAMESPACES, OVERLAYS, Document, lay_out, render


@pytest.fixture(autouse=True, scope="session")
def quick_schemas() -> Iterator[None]:
    """Each document that is validated has the schemas of all kinds read anew: megabytes of JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes_schemas, "schema_contents", functools.cache(kubernetes_schemas.schema_contents))
        yield


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of infra/ with passwords of its own."""
    return lay_out(tmp_path_factory.mktemp("cluster") / "infra")


@pytest.fixture(scope="module", params=NAMESPACES)
def overlay(request: pytest.FixtureRequest) -> str:
    """The name of each overlay that components are added to, one after another."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def rendered(infra: Path) -> dict[str, list[Document]]:
    """Overlay → its documents."""
    return {overlay: render(infra / "overlays" / overlay) for overlay in OVERLAYS}


@pytest.fixture(params=OVERLAYS)
def documents(request: pytest.FixtureRequest, rendered: dict[str, list[Document]]) -> list[Document]:
    """The documents of one overlay after the other."""
    return rendered[request.param]
