"""`import headstart`: instant, complete, and without what a script does not need."""

import subprocess
import sys
from pathlib import Path

import pytest

import headstart as hs
from headstart import installation
from tests.test_house import HEAVY


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_importing_it_imports_nothing_heavy():
    found = run(f"import sys, headstart; headstart.__all__; print(sorted(sys.modules.keys() & set({HEAVY!r})))")

    assert found == "[]\n"


def test_every_name_that_it_offers_is_there_documented_and_listed():
    assert set(hs.__all__) <= set(dir(hs))
    for name in hs.__all__:
        assert getattr(hs, name).__doc__, name


def test_a_name_that_it_lacks_is_an_attribute_error_as_for_any_module():
    with pytest.raises(AttributeError, match="no attribute 'dance'"):
        hs.dance  # noqa: B018


def test_a_model_is_loaded_and_asked_without_kubeflow(tmp_path: Path):
    """The library alone is installed without it."""
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['kfp', 'headstart_components', 'headstart_pipelines']))\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "import headstart as hs\n"
        "from headstart.models.architectures.convnet import convnet\n"
        "from headstart.models.bundle import ModelBundle\n"
        "from headstart.modalities.image.preprocessing import Preprocessing\n"
        "reads = Preprocessing(size=8, channels=1, mean=(0.5,), std=(0.3,))\n"
        f"place = Path({str(tmp_path)!r}, 'bundle')\n"
        "ModelBundle(convnet(classes=2, channels=1), 'convnet', 'image', reads, ('a', 'b')).save(place)\n"
        "model = hs.load(place)\n"
        "print(len(model.predict(np.zeros((3, 20, 20), np.uint8))))\n"
        "for name in set(hs.__all__) - {'Result', 'SearchResult', 'search', 'transfer'}:\n"
        "    getattr(hs, name)\n"
    )

    assert run(program) == "3\n"


def test_what_compiles_for_a_cluster_names_the_extra_where_kubeflow_is_missing_and_a_local_run_needs_none():
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0].startswith('kfp'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import headstart as hs\n"
        "assert hs.transfer.__doc__\n"
        "from headstart_pipelines.cli import main\n"
        "main(['compile', 'transfer', '-o', 'x.yaml'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stderr == "headstart: kfp is not installed; install it with: pip install 'headstart[pipelines]'\n"
    assert done.returncode == 2


def test_another_platform_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")

    with pytest.raises(hs.InputError, match="runs on Linux and macOS, not on win32; on Windows, install it in WSL"):
        installation.require_platform()
