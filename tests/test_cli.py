"""The command line, as a user meets it: a process with stdout, stderr and an exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cake_core import cli
from cake_core.methods import METHODS

ROOT = Path(__file__).parents[1]
QUICK = ["--set", "batches=2", "samples=100", "steps=20", "student.updates=200", "--device", "cpu"]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "cake_core", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_distill_prints_one_json_object_on_stdout():
    done = run("distill", "--data", "two-moons", "--seeds", "2", *QUICK, "--json", "-")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {"config", "runs", "summary"}
    assert [r["seed"] for r in result["runs"]] == [0, 1]
    wanted = {
        "seed", "teacher_accuracy", "student_accuracy", "agreement", "n_test", "samples", "forward_calls",
        "gradient_calls", "seconds",
    }  # fmt: skip
    for row in result["runs"]:
        assert wanted <= set(row)
        assert {"synthesis", "training", "evaluation"} <= set(row["seconds"])
        assert row["n_test"] == 2000
        assert row["samples"] == 200
        assert 0 <= row["agreement"] <= 1
    mean = sum(r["agreement"] for r in result["runs"]) / 2
    assert result["summary"]["agreement"]["mean"] == pytest.approx(mean)
    assert result["config"]["data"]["name"] == "moons"
    assert result["config"]["settings"]["steps"] == 20


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["distill", "--data", "mars"], "There is no data set 'mars'."),
        (["distill", "--method", "pie"], "There is no method 'pie'."),
        (["distill", "--student", "lenet5"], "A lenet5 can't be the student for Two moons."),
        (["distill", "--teacher", "mnist/lenet5"], "Teacher 'mnist/lenet5' learned mnist, not moons."),
        (["distill", "--set", "steps"], "--set takes KEY=VALUE; 'steps' is not."),
        (["distill", "--set", "stepz=3"], "There is no setting 'stepz'. Did you mean 'steps'?"),
        (["distill", "--set", "steps=many"], "'steps' must be a whole number from 1 to 20000; 'many' is not."),
        (["distill", "--seeds", "0"], "Argument --seeds: must be a whole number of at least 1, not '0'."),
        (["distill", "--device", "tpu"], "'device' can't be 'tpu'."),
        (["distill", "--dat", "moons", "--bogus"], "Unrecognized arguments: --bogus."),
        (["train-teacher", "--data", "moons"], "The following arguments are required: --model."),
        (["train-teacher", "--data", "moons", "--model", "cnn"], "CNN takes images, not points."),
        (["reproduce", "fig9"], "'fig9' can't be reproduced. Choose one of: fig1, fig2, fig3, table1"),
        (["bake"], "Argument COMMAND: invalid choice: 'bake'"),
        ([], "The following arguments are required: COMMAND."),
        (["methods", "--json", "/no/such/folder/x.json"], "'/no/such/folder/x.json' can't be written"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(arguments, sentence, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"cake_core: {sentence}")
    assert "Traceback" not in err


def test_a_real_process_fails_cleanly():
    done = run("distill", "--set", "steps=0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "cake_core: 'steps' must be a whole number from 1 to 20000; '0' is not.\n"


@pytest.mark.parametrize("command", ["methods", "datasets", "models", "teachers"])
def test_lists(command, capsys, tmp_path):
    assert cli.main([command]) == 0
    table = capsys.readouterr().out
    path = tmp_path / "list.json"
    assert cli.main([command, "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert rows
    assert all(row["name"] in table for row in rows)


def test_methods_list_their_settings(capsys):
    cli.main(["methods", "--json", "-"])
    rows = {r["name"]: r for r in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(METHODS)
    step = next(s for s in rows["cake"]["settings"] if s["name"] == "step_size")
    assert (step["low"], step["high"]) == (1e-5, 10)
    assert step["help"]
    assert rows["noise"]["control"]


def test_train_teacher_writes_weights_and_card(tmp_path, capsys):
    arguments = ["train-teacher", "--data", "circles", "--model", "mlp", "--out", str(tmp_path), "--json", "-"]
    assert cli.main([*arguments, "--set", "updates=300", "data.points=400"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["name"] == "circles/mlp"
    assert card["accuracy"]["n"] == 400
    assert card["accuracy"]["value"] > 0.9
    assert card["recipe"]["updates"] == 300
    assert json.loads((tmp_path / "circles" / "mlp.json").read_text()) == card
    assert (tmp_path / "circles" / "mlp.safetensors").is_file()


def test_record(tmp_path, capsys):
    path = tmp_path / "run.bin"
    words = ["batches=1", "samples=20", "steps=5", "student.updates=20"]
    assert cli.main(["record", "--out", str(path), "--set", *words, "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == path.stat().st_size


def test_help_needs_no_torch():
    code = "import sys; from cake_core import cli; cli._parser(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_import_data_makes_a_set_that_the_next_command_knows(tmp_path, monkeypatch, capsys):
    import numpy as np
    from PIL import Image

    from cake_core.data import arrays

    for k, name in enumerate(["dark", "light", "very light"]):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (20, 10), (80 * k, i, 0)).save(tmp_path / "pictures" / name / f"{i}.png")
    monkeypatch.setenv("CAKE_DATA_DIR", str(tmp_path / "data"))
    words = ["import-data", "--from", str(tmp_path / "pictures"), "--name", "my-shades", "--side", "16"]
    assert cli.main([*words, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["shape"], result["train"], result["test"]) == ([3, 16, 16], 24, 6)
    folder = tmp_path / "data" / "my-shades"
    assert arrays.describe(folder) == ((3, 16, 16), ("dark", "light", "very light"))
    x, y = arrays.read(folder, "train")
    assert x[y == 1, 0].unique().tolist() == [80]
    assert set(x[:, 1].unique().tolist()) <= set(range(10))
    assert np.load(folder / "test.npz")["images"].shape == (6, 16, 16, 3)
    assert list((tmp_path / "data").iterdir()) == [folder]  # nothing else was left
    (mine,), refused = arrays.discover(tmp_path / "data")  # what the next command does
    assert (mine.name, mine.classes, refused) == ("my-shades", ("dark", "light", "very light"), {})
    assert cli.main(words) == 2
    assert "my-shades' already. Choose another name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--name", "mnist"], "There is a data set 'mnist' already."),
        (["--name", "../x"], "A data set has a name of a-z, 0-9, - and _; '../x' is not."),
        (["--name", "My Set"], "A data set has a name of a-z, 0-9, - and _; 'My Set' is not."),
        (["--name", "mine", "--side", "7"], "Images can be made 8, 16, 28, 32, 64 pixels a side, not 7."),
        (["--name", "mine", "--colour", "red"], "'colour' must be one of auto, grey, colour; 'red' is not."),
        (["--name", "mine"], "There is no folder or zip file 'nowhere'."),
    ],
)
def test_import_data_refuses_with_a_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CAKE_DATA_DIR", str(tmp_path))
    assert cli.main(["import-data", "--from", "nowhere", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
