"""What is written is true: every setting has its help, every public function its docstring, README its commands."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import cake_core
from cake_core import cli
from cake_core.config import Config
from cake_core.data import DATASETS, DataConfig
from cake_core.detection import ProbeConfig
from cake_core.diffusion import DiffusionConfig
from cake_core.few_call import FewCallConfig
from cake_core.lineup import LineUpConfig
from cake_core.methods import METHODS
from cake_core.models import MODELS
from cake_core.pipeline import Experiment
from cake_core.proxies import ProxyConfig
from cake_core.student import KDConfig, StudentConfig
from cake_core.studies import OBJECTIVES, TuneConfig
from cake_core.training import TrainConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(cake_core.__path__, "cake_core.")
    if name != "cake_core.__main__"  # importing it runs it
]
CONFIGS: list[type[Config]] = [
    DataConfig,
    TrainConfig,
    StudentConfig,
    KDConfig,
    Experiment,
    DiffusionConfig,
    ProxyConfig,
    FewCallConfig,
    ProbeConfig,
    LineUpConfig,
    TuneConfig,
    *(m.Config for m in METHODS.values()),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.__name__)
def test_every_setting_has_its_sentence_and_bounds(config):
    for p in config.params():
        assert p.help.endswith("."), p.name
        assert p.group in ("Data", "Method", "Schedule", "Student", "Advanced"), p.name
        if p.kind in ("int", "float"):
            assert p.low is not None and p.high is not None, p.name
            assert p.low <= p.default <= p.high, p.name
        if p.kind == "choice":
            assert p.default in p.choices, p.name


def test_every_objective_has_its_sentence():
    for name, objective in OBJECTIVES.items():
        assert objective.help.endswith("."), name
        assert f"`{name}`" in README, f"README does not mention the objective {name}"


@pytest.mark.parametrize("name", MODULES)
def test_public_things_have_docstrings(name):
    module = importlib.import_module(name)
    assert module.__doc__, name
    for key, thing in vars(module).items():
        own = getattr(thing, "__module__", None) == name and not key.startswith("_")
        if not (own and (inspect.isclass(thing) or inspect.isfunction(thing))):
            continue
        if name == "cake_core.cli" and key in COMMANDS:
            continue  # commands of the command line say what they do in their help
        assert inspect.getdoc(thing), f"{name}.{key}"
        if inspect.isclass(thing) and not issubclass(thing, torch.autograd.Function):
            for method, function in vars(thing).items():
                public = inspect.isfunction(function) and function.__name__ == method and not method.startswith("_")
                if public and method not in {m for base in (nn.Module, torch.autograd.Function) for m in dir(base)}:
                    assert inspect.getdoc(getattr(thing, method)), f"{name}.{key}.{method}"


COMMANDS = (
    "methods", "datasets", "models", "teachers", "import_data", "train_teacher", "import_teacher", "distill", "record",
    "reproduce", "serve", "steal", "train_diffusion", "detect", "runs", "export",
    "track", "tune", "lessons",
)  # fmt: skip


def test_all_names_exist():
    for name in MODULES:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            assert hasattr(module, public), f"{name}.{public}"


@pytest.mark.parametrize("name", METHODS)
def test_deviations_are_numbered(name):
    text = inspect.getdoc(METHODS[name])
    if "none;" in text:
        return
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", text, flags=re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


def test_readme_names_what_there_is():
    for name in (*METHODS, *DATASETS, *MODELS):
        assert f"`{name}`" in README, f"README does not mention {name}"
    for command in COMMANDS:
        assert f"`{command.replace('_', '-')}`" in README, f"README does not mention the command {command}"


def test_readme_commands_are_understood():
    """Every command line in README that begins with python -m cake_core can be parsed."""
    lines = re.findall(r"^\s*(?:\$ )?python -m cake_core (.+)$", README, flags=re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        words = line.split("#")[0].split()
        cli._parser().parse_args(words)


def test_readme_python_runs():
    """The headless lines of README, as they stand, with a small budget."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 20
    exec(compile(code, "README.md", "exec"), {})


def test_readme_draws_the_tree():
    for folder in ("app.py", "pages", "cake_core", "assets", "benchmarks", "tests", "requirements.txt"):
        assert folder in README
        assert (ROOT / folder).exists()


def test_both_commands_are_one_line_and_ci_runs_the_second():
    run, test = re.findall(r"^    (python3 -m venv .+)$", README, flags=re.MULTILINE)
    assert "requirements.txt" in run
    assert "streamlit run app.py" in run
    assert test in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("check", [["check"], ["format", "--check"]], ids=" ".join)
def test_the_style_is_kept(check):
    done = subprocess.run([sys.executable, "-m", "ruff", *check, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_changelog_is_current():
    assert cake_core.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_nothing_speaks_of_the_workplace():
    """No path of a machine in what is committed."""
    for path in ROOT.rglob("*"):
        inside = path.relative_to(ROOT).parts
        if path.suffix in (".py", ".md", ".js", ".css", ".html", ".toml", ".txt", ".csv", ".json", ".yaml"):
            if inside[0].startswith(".") and inside[0] not in (".streamlit", ".ci"):
                continue
            text = path.read_text(errors="ignore")
            assert str(ROOT) not in text, path
