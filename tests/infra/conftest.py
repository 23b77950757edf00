from pathlib import Path

import pytest

from tests.infra.manifests import OVERLAYS, Document, lay_out, render


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of infra/ with passwords of its own."""
    return lay_out(tmp_path_factory.mktemp("cluster") / "infra")


@pytest.fixture(scope="session")
def rendered(infra: Path) -> dict[str, list[Document]]:
    """Overlay → its documents."""
    return {overlay: render(infra / "overlays" / overlay) for overlay in OVERLAYS}


@pytest.fixture(params=OVERLAYS)
def documents(request: pytest.FixtureRequest, rendered: dict[str, list[Document]]) -> list[Document]:
    """The documents of one overlay after the other."""
    return rendered[request.param]
