"""The rules of the house: what may import what, how thin a component is, what is never done anywhere."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import import_module, metadata
from pathlib import Path

import pytest

from headstart.recipe.recipe import load_recipe
from headstart.version import __version__

ROOT = Path(__file__).parent.parent
FLOORS = ("headstart", "components", "pipelines")
MODULES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
COMPONENTS = sorted((ROOT / "components").glob("*/component.py"))
RECIPES = sorted((ROOT / "pipelines" / "recipes").glob("*.yaml"))

# Each costs between 0.1 and 4 seconds.
HEAVY = ["boto3", "jinja2", "kfp", "matplotlib", "mlflow", "numpy", "pandas", "PIL", "pyarrow", "pydantic", "rich",
         "sklearn", "timm", "torch", "torchvision", "yaml"]  # fmt: skip

# The design's measure is "about 30 lines"; here in statements, imports aside, so that an argument a line costs nothing.
# evaluate has the most: it maps four inputs to six outputs. What needs more has logic that belongs in the library.
STATEMENTS_OF_A_COMPONENT = 25

# The library's rooms, from the ground up. A module beside them that is not named here is below all of them.
ROOMS = (
    "storage", "sections", "metrics", "modalities", "data", "models", "training", "features", "strategies", "jobs",
    "judging", "tracking", "searching", "recipe", "api",
)  # fmt: skip


@cache
def parsed(path: Path) -> ast.Module:
    """A module's tree, parsed once for all rules."""
    return ast.parse(path.read_text())


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]


def imports(tree: ast.AST) -> set[str]:
    """The modules that a piece of code imports, wherever it does."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module)
    return found


def roots(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


# Floors


@pytest.mark.parametrize(
    ("floor", "above"),
    [("headstart", {"kfp", "headstart_components", "headstart_pipelines"}), ("components", {"headstart_pipelines"})],
)
def test_imports_run_downward_only(floor, above):
    paths = sorted((ROOT / floor).rglob("*.py"))
    assert paths

    wrong = {place(path): roots(imports(parsed(path))) & above for path in paths}

    # `import headstart` offers the names of every floor; it imports them when they are used.
    assert {name: modules for name, modules in wrong.items() if modules} == (
        {"headstart/__init__.py": {"headstart_pipelines"}} if floor == "headstart" else {}
    )


def library_modules(tree: ast.AST) -> set[str]:
    """The library's modules that a piece of code names: in imports, those inside functions included, and in strings."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"headstart(\.\w+)+", str(node.value)):
            found.add(str(node.value))
    return {module for module in found if module.startswith("headstart.")}


def room(module: str) -> int:
    """Where the library's module stands; -1 is below all rooms. The package itself, whose names come from `api`, is
    above them."""
    name = module.split(".")[1]
    if name == "__init__":
        return len(ROOMS)
    return ROOMS.index(name) if name in ROOMS else -1


def test_every_package_of_the_library_is_a_room():
    packages = {path.parent.name for path in (ROOT / "headstart").glob("*/__init__.py")}

    assert packages == set(ROOMS) - {"sections"}


def test_a_room_imports_nothing_from_above_it():
    wrong = []
    for path in (ROOT / "headstart").rglob("*.py"):
        own = room(place(path.with_suffix("")).replace("/", "."))
        wrong += [f"{place(path)}: {each}" for each in library_modules(parsed(path)) if room(each) > own]

    assert wrong == []


@pytest.mark.parametrize(
    "code",
    ["from headstart.judging import report", "def late():\n    import headstart.judging.report",
     "WORKER = 'headstart.judging.report'", "if TYPE_CHECKING:\n    from headstart.judging.report import Report"],
)  # fmt: skip
def test_the_test_of_direction_sees_every_way_to_name_a_module(code):
    assert {room(module) for module in library_modules(ast.parse(code))} == {ROOMS.index("judging")}


@pytest.mark.parametrize("path", sorted((ROOT / "components").rglob("*.py")), ids=lambda path: path.parent.name)
def test_a_component_imports_the_library_only_inside_its_body(path):
    tree = ast.parse(path.read_text())
    outside = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]

    allowed = {"kfp", "headstart_components", "headstart"} | sys.stdlib_module_names
    assert roots(imports(ast.Module(outside, []))) <= allowed
    assert {m for m in imports(ast.Module(outside, [])) if roots({m}) == {"headstart"}} <= {"headstart.version"}


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_is_one_function_that_kubeflow_and_the_pod_know_by_its_folders_name(path):
    """What travels to the pod is an import of it."""
    tree = ast.parse(path.read_text())
    statements = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)]

    (function,) = statements
    assert isinstance(function, ast.FunctionDef)
    assert function.name == path.parent.name
    assert [ast.unparse(decorator) for decorator in function.decorator_list] == ["component"]


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_writes_and_reads_metadata_by_the_one_pair_of_functions_that_knows_kubeflows_store(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("metadata", "log_metric"), f"line {node.lineno}"


# Components


def test_there_is_a_component_for_each_step_of_the_design():
    assert [path.parent.name for path in COMPONENTS] == [
        "alarm", "close_record", "evaluate", "finetune", "fit_baselines", "monitor", "prepare_data", "prepare_part",
        "pretrain", "register", "select_source", "survey", "trial"
    ]  # fmt: skip


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_is_thin(path):
    (function,) = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
    statements = [node for node in function.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    count = sum(isinstance(node, ast.stmt) for statement in statements for node in ast.walk(statement))

    assert count <= STATEMENTS_OF_A_COMPONENT
    assert not any(
        isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Try) for s in statements for node in ast.walk(s)
    )


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_documents_each_of_its_arguments(path):
    (function,) = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
    documentation = inspect.cleandoc(ast.get_docstring(function) or "")
    documented = re.findall(r"^    (\w+): \S", documentation.partition("Args:\n")[2].partition("\n\n")[0], re.MULTILINE)

    assert documented == [argument.arg for argument in function.args.args]


@pytest.mark.parametrize("name", ["pretrain", "finetune", "monitor", "survey", "trial"])
def test_a_pipeline_documents_each_of_its_parameters(name):
    path = ROOT / "pipelines" / f"{name}.py"
    (function,) = (
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef) and n.name == name
    )
    documentation = (ast.get_docstring(function) or "").partition("Args:\n")[2]

    assert re.findall(r"^    (\w+): \S", documentation.partition("\n\n")[0], re.MULTILINE) == [
        argument.arg for argument in function.args.args
    ]


# The command line is instant


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_the_command_line_imports_nothing_heavy_before_it_has_work(arguments):
    program = (
        "import sys\n"
        "from headstart_pipelines.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as ended:\n"
        "    assert not ended.code\n"
        f"print('imported:', sorted(sys.modules.keys() & set({HEAVY!r})))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "imported: []"


@pytest.mark.parametrize(
    "line",
    [
        "compare digits", "history digits-target", "lineage digits-target", "promote digits-target",
        "rollback digits-target", "runs --workspace .", "clean", "diff models:/a/1 models:/a/2",
        "monitor models:/a/1 photos", "evaluate models:/a/1 photos", "predict models:/a/1 photos",
        "export models:/a/1 --format onnx",
    ],
)  # fmt: skip
def test_a_person_is_told_what_a_command_waits_for_before_anything_heavy_is_imported(line, tmp_path):
    """The first word ends the process, which then says what was imported by then."""
    program = (
        "import os, sys\n"
        "class Terminal:\n"
        "    isatty = lambda self: True\n"
        "    flush = lambda self: None\n"
        "    def write(self, text):\n"
        f"        print(text, 'imported:', sorted(sys.modules.keys() & set({HEAVY!r})), flush=True)\n"
        "        os._exit(0)\n"
        "sys.stderr = Terminal()\n"
        "from headstart_pipelines.cli import main\n"
        f"main({line.split()!r})\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)

    assert done.stdout.startswith("headstart: ")
    assert done.stdout.endswith("imported: []\n")


def test_the_recipe_is_read_without_anything_heavy_but_its_own_validation():
    program = f"import sys, headstart.recipe.recipe; print(sorted(sys.modules.keys() & set({HEAVY!r})))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "['pydantic', 'yaml']\n"


# One truth


def test_the_version_is_the_same_everywhere():
    image = import_module("headstart_components").IMAGE
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert metadata.version("headstart") == __version__
    assert image == f"headstart:{__version__}"
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "headstart.version.__version__"}


def test_there_are_recipes_to_start_from():
    assert {"digits.yaml", "natural_disasters.yaml"} <= {path.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_that_ships_is_valid(path):
    load_recipe(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_that_ships_is_installed_with_the_package(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    patterns = project["tool"]["setuptools"]["package-data"]["headstart_pipelines"]
    assert any(path.relative_to(ROOT / "pipelines").match(pattern) for pattern in patterns)


def test_what_is_installed_bears_no_name_that_a_users_own_folder_may_have():
    """A folder `pipelines` or `components` where headstart is started would otherwise be imported in its place."""
    installed = {name for name, of in metadata.packages_distributions().items() if "headstart" in of}

    assert installed == {"headstart", "headstart_components", "headstart_pipelines"}


# Small enough to read


# KFP reads these functions' arguments as the interface of a component or a pipeline, which is that of the recipe.
INTERFACES = {"components/evaluate/component.py", "components/register/component.py", "components/trial/component.py",
              "pipelines/transfer.py", "pipelines/finetune.py", "pipelines/trial.py"}  # fmt: skip


def test_a_function_has_at_most_60_lines_and_8_arguments():
    wrong = []
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            if node.end_lineno - node.lineno >= 60 or (count > 8 and place(path) not in INTERFACES):
                wrong.append(f"{place(path)}:{node.lineno}: {node.name}")

    assert wrong == []


def test_the_places_that_contributors_are_sent_to_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    places = set(re.findall(r"\b(?:headstart|components|pipelines|tests|docs|infra)/[\w/.*-]*\w/?", text))
    assert len(places) > 30
    assert {place for place in places if not any(ROOT.glob(place))} == set()


# Never


def unpickles(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name in ("torch.load", "torch.hub.load_state_dict_from_url") or name.endswith(".get_state_dict"):
        return options.get("weights_only") != "True"
    if name in ("np.load", "numpy.load"):
        return options.get("allow_pickle", "False") != "False"
    return bool(re.fullmatch(r"(c?[pP]ickle|joblib|dill|shelve)\.\w+|(.*\.)?(read_pickle|Unpickler)", name))


@pytest.mark.parametrize(
    "code",
    ["pickle.load(file)", "pd.read_pickle(path)", "torch.load(path)", "torch.load(path, weights_only=False)",
     "np.load(path, allow_pickle=True)", "model.get_state_dict()", "joblib.load(path)"],
)  # fmt: skip
def test_the_test_of_pickles_sees_every_way_to_read_one(code):
    assert unpickles(ast.parse(code).body[0].value)


def test_nothing_unpickles():
    assert [f"{place(path)}:{call.lineno}" for path in MODULES for call in calls(path) if unpickles(call)] == []
    never = {"joblib", "dill", "cloudpickle", "shelve", "marshal"}
    assert [place(path) for path in MODULES if roots(imports(parsed(path))) & never] == []


def test_no_subprocess_goes_through_a_shell():
    wrong = [
        f"{place(path)}:{call.lineno}"
        for path in MODULES
        for call in calls(path)
        if "shell" in {keyword.arg for keyword in call.keywords} or ast.unparse(call.func) in ("os.system", "os.popen")
    ]

    assert wrong == []


def test_a_module_says_what_it_is_about():
    assert [place(path) for path in MODULES if parsed(path).body and not ast.get_docstring(parsed(path))] == []
