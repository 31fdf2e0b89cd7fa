"""More than one machine: a real Ray cluster of two nodes on the loopback; processes and a node are killed in it."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from cake_core import cli, cluster, runs, studies, synthesize, teacher
from cake_core.errors import CakeError
from cake_core.grid import Grid
from cake_core.jobs import JobRunner
from cake_core.limits import Limits
from cake_core.pipeline import Experiment
from cake_core.shards import Sharded
from cake_core.synthetic import SyntheticSet
from cake_core.tuning import Tuning

from .test_jobs import LONG, Viewer, spec
from .waiting import until

ROOT = Path(__file__).parents[1]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed; pip install -r requirements-ray.txt"
)
SMALL = {"shape": (1, 8, 8), "classes": 10, "seed": 3, "device": "cpu", "samples": 20, "steps": 12}
STORE = 78 * 2**20  # the least that Ray takes
# Read by Ray's processes when they start: no look at the machine's memory, which is others' too; a lost node is noticed
# after two seconds.
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}


@pytest.fixture(autouse=True)
def one_thread():
    """As on the nodes: how many threads there are shows in the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def ways_of_ray() -> Iterator[None]:
    """Before anything imports Ray, which reads them once."""
    before = dict(os.environ)
    os.environ.update(RAY)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No engine and no address of whoever runs the tests."""
    for key in ("CAKE_ENGINE", "CAKE_RAY_GPUS", "CAKE_RAY_CPUS"):
        monkeypatch.delenv(key, raising=False)


# -- what needs no cluster --------------------------------------------------------------------------------------------


def test_nothing_imports_ray_unless_it_is_asked_for():
    code = (
        "import sys; sys.modules['ray'] = None; import app, cake_core.cli, cake_core.tasks, cake_core.tuning_task; "
        "from cake_core.jobs import JobRunner; r = JobRunner(); r.close(); print(r.engine)"
    )
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "embedded"


def test_without_ray_a_sentence_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["distill", "--engine", "ray", "--shards", "2"]) == 2
    assert f"pip install {cluster.PACKAGE}" in capsys.readouterr().err
    assert "CAKE_ENGINE" not in os.environ
    runner = JobRunner(Limits(), engine="ray")
    job = runner.submit("distill", spec(), play=True)
    until(lambda: job.state == "failed")
    assert f"pip install {cluster.PACKAGE}" in job.message
    runner.close()


def test_the_version_is_said_once():
    lines = [(ROOT / f"requirements{kind}.txt").read_text().splitlines() for kind in ("-ray", "-dev")]
    assert all(cluster.PACKAGE in found for found in lines)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["distill", "--engine", "spark"], "There is no engine 'spark'. Choose one of: embedded, ray"),
        (["distill", "--shards", "2"], "on a cluster alone. Add --engine ray"),
        (["reproduce", "fig3", "--shards", "2"], "on a cluster alone. Add --engine ray"),
        (["tune", "--engine", "Ray"], "There is no engine 'Ray'"),
    ],
)
def test_bad_words_get_a_sentence(capsys, words, sentence):
    assert cli.main(words) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"), [("GPUS", "-1"), ("GPUS", "many"), ("CPUS", "0"), ("CPUS", "1.5"), ("CPUS", "inf")]
)
def test_a_share_that_cannot_be_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"CAKE_RAY_{name}", value)
    with pytest.raises(CakeError, match=f"CAKE_RAY_{name} is '{value}'. Set it to a share"):
        cluster.Share.from_environment()


@pytest.mark.parametrize(
    ("share", "nodes", "held"),
    [
        (cluster.Share(), [{"CPU": 2.0}, {"CPU": 3.0}], 5),
        (cluster.Share(cpus=2), [{"CPU": 1.0}, {"CPU": 5.0}], 2),  # a task does not lie on two nodes
        (cluster.Share(gpus=0.25), [{"CPU": 64.0, "GPU": 2.0}, {"CPU": 64.0}], 8),  # where there are GPUs, on those
        (cluster.Share(gpus=0.25), [{"CPU": 3.0, "GPU": 2.0}], 3),
        (cluster.Share(gpus=0.3, cpus=0.1), [{"CPU": 8.0, "GPU": 1.0}], 3),
        (cluster.Share(gpus=0), [{"CPU": 4.0, "GPU": 1.0}], 4),
        (cluster.Share(gpus=2), [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 4.0}], 2),
    ],
)
def test_how_much_a_cluster_holds(share, nodes, held):
    known = [{"Alive": True, "Resources": n} for n in nodes] + [{"Alive": False, "Resources": nodes[0]}]
    assert cluster.room(share, SimpleNamespace(nodes=lambda: known)) == held


def test_all_processes_of_a_server_have_one_mark(tmp_path, monkeypatch):
    monkeypatch.setenv("CAKE_RUNS_DIR", str(tmp_path / "runs"))
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: cluster._mark(), range(64)))) == 1
    assert [p.name for p in (tmp_path / "runs").iterdir()] == [cluster.MARK]


def test_a_node_with_other_versions_is_refused():
    sealed = cluster.seal()
    cluster._compare(sealed)
    with pytest.raises(CakeError, match=r"Node \S+ has torch .+ and who gives it work has 0.0.1. Install the same"):
        cluster._compare(sealed | {"torch": "0.0.1"})


@needs_ray
@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("here", "RAY_ADDRESS is 'here'. Write the head's host and port, such as 10.0.0.1:6379"),
        ("ray://127.0.0.1:10001", "Write the head's host and port"),
        ("127.0.0.1:{closed}", "No Ray cluster answers at RAY_ADDRESS=127.0.0.1:{closed} (Connection refused)"),
        ("127.0.0.1:{mute}", "No Ray cluster answers at RAY_ADDRESS=127.0.0.1:{mute}, though something else does"),
    ],
)
def test_an_address_without_a_cluster(monkeypatch, address, sentence):
    monkeypatch.setattr(cluster, "PATIENCE", 2.5)
    with socket.socket() as mute, socket.socket() as closed:
        for s in (mute, closed):
            s.bind(("127.0.0.1", 0))
        mute.listen()
        ports = {"mute": mute.getsockname()[1], "closed": closed.getsockname()[1]}
        monkeypatch.setenv("RAY_ADDRESS", address.format(**ports))
        start = time.monotonic()
        with pytest.raises(CakeError) as error:
            cluster.connect()
        assert sentence.format(**ports) in str(error.value)
        assert time.monotonic() - start < 60


@needs_ray
def test_a_head_that_asks_for_a_token(tmp_path, monkeypatch):
    mark, port = secrets.token_hex(8), free_port()
    command = [Path(sys.executable).parent / "ray", "start", "--head", f"--port={port}", "--num-cpus=0", "--block"]
    command += ["--include-dashboard=false", f"--object-store-memory={STORE}"]
    env = os.environ | RAY | {"CAKE_MARK": mark, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 32}
    with (tmp_path / "said").open("w") as said:
        head = subprocess.Popen(command, env=env, stdout=said, stderr=said)
    address = f"127.0.0.1:{port}"
    try:
        until(lambda: "runtime started" in (tmp_path / "said").read_text())
        monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 32)
        cluster._ask(address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "b" * 32)
        with pytest.raises(CakeError, match=f"{address} does not know this machine's token. Copy the file"):
            cluster._ask(address)
    finally:
        head.terminate()
        _, alive = psutil.wait_procs(marked(mark), timeout=20)
    assert not alive, alive


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@needs_ray
def test_a_job_says_that_no_cluster_answers(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    runner = JobRunner(Limits(), engine="ray")
    job = runner.submit("distill", spec(), play=True)
    until(lambda: job.state == "failed")
    assert job.message.startswith("RAY_ADDRESS is 'nowhere'")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # the next try asks anew
    job.reset()
    until(lambda: job.state == "failed")
    assert "Connection refused" in job.message
    runner.close()


# -- a cluster of two nodes -------------------------------------------------------------------------------------------


class Two:
    """A head and another node, each with one core, as real processes on the loopback."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        args = {"num_cpus": 1, "object_store_memory": STORE}
        self.cluster = Cluster(initialize_head=True, head_node_args={**args, "include_dashboard": False})
        self.other = self.cluster.add_node(**args)

    def raylet(self, node) -> psutil.Process:
        return psutil.Process(node.all_processes["raylet"][0].process.pid)

    def tasks(self) -> list[psutil.Process]:
        """The processes that work on a task now."""
        found = []
        for process in (p for node in self.cluster.list_all_nodes() for p in self.raylet(node).children()):
            with contextlib.suppress(psutil.Error):  # it has just ended
                found += [process] if "_work" in " ".join(process.cmdline()) else []
        return found

    def lose(self) -> None:
        """kill -9 of the other node: all of it."""
        raylet = self.raylet(self.other)
        for process in [raylet, *raylet.children(recursive=True)]:
            process.kill()


def marked(mark: str) -> list[psutil.Process]:
    """All processes that were started with a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("CAKE_MARK") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def two(runs_folder) -> Iterator[Two]:
    mark = secrets.token_hex(8)
    os.environ["CAKE_MARK"] = mark
    made = Two()
    os.environ["RAY_ADDRESS"] = made.cluster.address
    cluster.connect()
    yield made
    cluster.leave()
    made.cluster.shutdown()
    _, alive = psutil.wait_procs(marked(mark), timeout=20)
    for key in ("CAKE_MARK", "RAY_ADDRESS"):
        del os.environ[key]
    assert not alive, alive


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return teacher.load("digits/lenet5").network


def finished(run):
    for _ in run:
        pass
    return run


def same(one: SyntheticSet, other: SyntheticSet) -> None:
    for key in ("x", "y"):
        torch.testing.assert_close(getattr(one, key), getattr(other, key), rtol=1e-4, atol=1e-5)
    for key in ("labels", "batch"):
        assert torch.equal(getattr(one, key), getattr(other, key))
    assert one.provenance == other.provenance


@needs_ray
def test_it_is_on_the_loopback_alone(two):
    assert two.cluster.address.startswith("127.0.0.1:")
    processes = [
        p for n in two.cluster.list_all_nodes() for p in (two.raylet(n), *two.raylet(n).children(recursive=True))
    ]
    processes += [psutil.Process(two.cluster.head_node.all_processes["gcs_server"][0].process.pid)]
    heard = {c.laddr.ip for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert heard <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, heard
    assert cluster.room(cluster.Share()) == 2
    assert cluster.room(cluster.Share(cpus=0.5)) == 4


@needs_ray
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_shards_give_the_same_samples(two, network, shards):
    alone = finished(synthesize(network, "lake", **SMALL, batches=6))
    run = synthesize(network, "lake", **SMALL, batches=6, shards=shards, in_flight=2)
    steps = [(s.step, s.total) for s in run]
    same(run.result, alone.result)
    assert steps == sorted(steps)
    assert steps[-1] == (6 * 12, 6 * 12)
    assert len(run.parts) >= shards
    assert run.lost == 0


@needs_ray
def test_a_teacher_that_is_a_function_and_methods_with_data_and_generators(two, network):
    data = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(200) % 10
    more = SMALL | {"steps": 3}
    for method, made, given in (("cake", lambda x: network(x), None), ("kd", network, data)):
        settings = {k: v for k, v in more.items() if method != "kd" or k != "steps"}
        alone = finished(synthesize(made, method, **settings, batches=2, data=given))
        same(finished(synthesize(made, method, **settings, batches=2, data=given, shards=2)).result, alone.result)
    with pytest.raises(CakeError, match=r"trains one generator for all mini-batches.*--shards 1"):
        synthesize(network, "dafl", **more, batches=2, shards=2)
    run = synthesize(network, "dafl", **more, batches=2, shards=0)
    same(finished(run).result, finished(synthesize(network, "dafl", **more, batches=2)).result)


@needs_ray
def test_what_is_refused_on_a_node_is_said_here(two, network):
    run = synthesize(
        network, "cake", **SMALL | {"steps": 40}, batches=2, step_size=10.0, clip=0.0, sigma=10.0, shards=2
    )
    with pytest.raises(CakeError, match="can't change while it goes on"):
        run.config = run.config.replace(step_size=1.0)
    bad = synthesize(lambda x: network(x) * float("nan"), "cake", **SMALL, batches=2, shards=2)
    with pytest.raises(CakeError, match="ran off to infinity"):
        finished(bad)
    lock = threading.Lock()
    with pytest.raises(CakeError, match="can't be sent to other nodes"):
        finished(synthesize(lambda x: (lock, network(x))[1], "cake", **SMALL, batches=2, shards=2))


LONGER = SMALL | {"batches": 8, "steps": 150, "in_flight": 1}


@pytest.fixture(scope="module")
def undisturbed(network) -> SyntheticSet:
    """What the runs of `disturbed` give on one machine."""
    return finished(synthesize(network, "cake", **LONGER)).result


def disturbed(two: Two, network, node, disturb: Callable[[psutil.Process], None]) -> Sharded:
    """A run in two parts, on each node one, that is disturbed when something is finished and a node is at work."""
    run, done = synthesize(network, "cake", **LONGER, shards=2), False
    for _ in run:
        working = [p for p in two.tasks() if p.ppid() == two.raylet(node).pid] if run.parts and not done else []
        if working:
            disturb(working[0])
            done = True
    assert done
    return run


@needs_ray
def test_a_killed_process_costs_nothing_but_time(two, network, undisturbed):
    run = disturbed(two, network, two.cluster.head_node, lambda process: process.kill())
    assert run.lost == 1
    assert "lost with its process or node" in run.note
    assert len(run.parts) == 8  # nothing that was finished was made twice
    same(run.result, undisturbed)


@needs_ray
def test_it_goes_on_where_it_was_stopped(two, network, undisturbed, tmp_path):
    first = synthesize(network, "cake", **LONGER, shards=2)
    first._folder = tmp_path
    for _ in first:
        if len(first.parts) >= 3:
            break
    first.close()
    until(lambda: not two.tasks())  # nothing goes on that nobody waits for
    second = synthesize(network, "cake", **LONGER, shards=2)
    second._folder = tmp_path
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    finished(second)
    assert 3 <= len(before) < 8
    assert before == {name: (tmp_path / name).stat().st_mtime_ns for name in before}
    assert len(list(tmp_path.iterdir())) == 8
    same(second.result, undisturbed)


# -- grids and studies ------------------------------------------------------------------------------------------------

QUICK = Experiment.from_query({"data": "digits", "batches": "2", "samples": "20", "steps": "4", "device": "cpu"})


def grid(folder: Path, teacher: str = "digits/lenet5", updates: int = 5, seeds: int = 2, **more) -> Grid:
    return Grid(QUICK, [teacher], ["lenet5-half", "mlp"], seeds, student={"updates": updates}, folder=folder, **more)


def plain(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


@needs_ray
def test_a_grid_is_spread_and_a_killed_process_costs_no_cell(two, tmp_path, monkeypatch):
    alone = grid(tmp_path / "alone", updates=100)
    list(alone)
    monkeypatch.setenv("CAKE_ENGINE", "ray")
    spread, shares, killed = grid(tmp_path / "spread", updates=100), [], 0
    for update in spread:
        shares.append(update.progress)
        if not killed and spread.rows and (busy := two.tasks()):
            busy[0].kill()
            killed = 1
    assert killed
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert plain(spread.rows) == plain(alone.rows)
    for path in (tmp_path / "alone").glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "spread" / path.name).read_bytes()
    again = grid(tmp_path / "spread", updates=100)
    assert [u.progress for u in again][-1] == 1
    assert plain(again.rows) == plain(alone.rows)
    assert not list((tmp_path / "spread" / "parts").iterdir())


@needs_ray
def test_teachers_are_trained_once_and_go_along(two, tmp_path, monkeypatch):
    monkeypatch.setenv("CAKE_ENGINE", "ray")
    trained = Grid(QUICK, ["mlp"], ["mlp"], 2, student={"updates": 5}, folder=tmp_path, controls=0)
    list(trained)
    assert len(list((tmp_path / "teachers").glob("*.json"))) == 1
    assert len({r["teacher_accuracy"] for r in trained.rows}) == 1
    # One of somebody's own is known on this machine alone.
    run = runs.create()
    teacher.load("digits/lenet5").save(runs.find(run), "teacher")
    own = grid(tmp_path / "own", f"run:{run}", seeds=1, controls=0)
    list(own)
    shards = grid(tmp_path / "shards", f"run:{run}", seeds=1, controls=0, shards=2)
    list(shards)
    for a, b in zip(plain(own.rows), plain(shards.rows), strict=True):
        assert {k: (v, b[k]) for k, v in a.items() if v != b[k]} == {}


@needs_ray
@pytest.mark.long
def test_a_study_is_spread(two, monkeypatch):
    e = Experiment.from_query(
        {"data": "moons", "batches": "2", "samples": "40", "steps": "20", "student.updates": "60"}
    )
    config = studies.TuneConfig.from_dict(
        {"experiment": e.replace(device="cpu"), "space": studies.usual(e), "objectives": (studies.FREE,)}
    )

    def studied(workers: int, trials: int, kill: bool = False) -> list[dict]:
        study, shares = studies.begin(config), []
        run = Tuning(study, trials, workers=workers)
        for update in run:
            shares.append(update.progress)
            if kill and (busy := two.tasks()):
                busy[0].kill()
                kill = False
        run.close()
        assert not kill
        assert shares[-1] == 1
        number = [p.stem for p in studies.folder(study).glob("*.bin")]
        assert sorted(map(int, number)) == list(range(trials))
        return [{k: row[k] for k in ("state", "params", "values", "curve")} for row in studies.read(study)["rows"]]

    alone = studied(1, 2)
    monkeypatch.setenv("CAKE_ENGINE", "ray")
    assert studied(1, 2) == alone
    several = studied(0, 4, kill=True)  # the trial that is lost is run again
    assert [row["state"] for row in several] == ["finished"] * 4
    assert several[0] == alone[0]


# -- jobs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def only_runner(two) -> Iterator[JobRunner]:
    made = JobRunner(Limits(max_running=4), engine="ray")
    yield made
    for worker in made._workers.values():
        worker.close()
    made._closing.set()  # not close(), for the cluster is the tests'


@pytest.fixture
def runner(only_runner) -> Iterator[JobRunner]:
    yield only_runner
    for job in list(only_runner.jobs.values()):
        only_runner.forget(job)


@needs_ray
def test_a_job_on_the_cluster_is_like_any_other(runner):
    job = runner.submit("distill", spec())
    viewer = Viewer(job)
    until(lambda: viewer.scenes and any(f["stage"] == "synthesis" for f in viewer.frames))
    assert job.state == "ready"
    assert viewer.step == 0
    job.step()
    until(lambda: viewer.step == 1)
    version = job.set(step_size=0.7)
    job.step()
    until(lambda: viewer.frames[-1]["version"] == version)
    assert viewer.step == 2
    until(lambda: job.spec["experiment"]["settings"]["step_size"] == 0.7)
    job.set(step_size=-1)
    until(lambda: any(t["type"] == "refused" for t in viewer.texts))
    assert job.state == "paused"
    job.pace(0)
    job.play()
    until(lambda: job.state == "done")
    assert [f["step"] for f in viewer.frames if f["stage"] == "synthesis"][-1] == 30
    assert runs.read(job.result["run"])["outcome"] == job.result["outcome"]
    bad = runner.submit("distill", {"experiment": {"method": "nonsense"}})
    until(lambda: bad.state == "failed")
    assert "nonsense" in bad.message
    # From there it spreads over the nodes what can be spread.
    about = {"experiment": QUICK.to_dict(), "teachers": ["digits/lenet5"], "students": ["mlp"], "seeds": 2}
    spreading = runner.submit("grid", {**about, "student": {"updates": 5}}, play=True)
    seen = Viewer(spreading)
    until(lambda: spreading.state == "done")
    assert len(spreading.result["rows"]) == 3
    assert any(t.get("note", "").startswith(("Making samples", "On the cluster")) for t in seen.texts)


@needs_ray
def test_jobs_have_places_of_their_own_and_one_goes_on_after_a_kill(runner, monkeypatch):
    monkeypatch.setenv("CAKE_RAY_CPUS", "0.5")
    jobs = [runner.submit("distill", spec(**LONG), owner=str(k), play=True) for k in range(2)]
    viewers = [Viewer(j) for j in jobs]
    assert [j.worker for j in jobs] == ["compute-0", "compute-1"]
    until(lambda: all(v.step > 10 for v in viewers))
    jobs[0].pause()
    until(lambda: jobs[0].state == "paused")
    time.sleep(0.3)
    there = viewers[0].step
    # Two in lock-step stand side by side.
    third = runner.submit("distill", spec(**LONG), owner="0")
    assert third.worker == "compute-0"
    runner.pair(jobs[1], third)
    assert third.worker == jobs[1].worker == "compute-1"
    runner.forget(third)
    assert viewers[0].step == there
    jobs[0].play()
    until(lambda: viewers[0].step > there)
    os.kill(runner._workers["compute-0"].place["pid"], signal.SIGKILL)
    until(lambda: "The compute process ended unexpectedly" in jobs[0].message)
    assert [j.state for j in jobs] == ["running", "running"]
    step = viewers[1].step
    until(lambda: viewers[1].step > step + 10)
    viewers[0].frames.clear()
    until(lambda: viewers[0].frames and viewers[0].step > 5)


@needs_ray
def test_a_node_that_does_not_see_the_runs_is_refused(two, monkeypatch):
    monkeypatch.setattr(cluster, "_mark", lambda: "something else")
    said = SimpleNamespace(messages=[], ended=[])
    process = cluster.ClusterProcess(lambda *m: said.messages.append(m), lambda w, reason: said.ended.append(reason))
    until(lambda: said.ended)
    assert "does not see the folder of the runs" in process.refused
    assert "on a file system that all nodes share" in said.ended[0]


@needs_ray
def test_what_cannot_be_divided_is_refused_on_the_command_line(two, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "leave", lambda: None)  # the cluster is the tests'
    few = ["--engine", "ray", "--shards", "2"]
    for words, sentence in (
        (["reproduce", "fig1", *few], "Fig. 1 is small enough to be made on one machine"),
        (["distill", *few, "--edit", "5:step_size=0.5"], "Settings can't change while a cluster makes samples"),
        (["distill", "--data", "digits", "--method", "dafl", *few], "so it can't be made in 2 parts"),
    ):
        assert cli.main(words) == 2
        assert sentence in capsys.readouterr().err


@needs_ray
def test_a_share_that_no_node_has_is_refused(two, network, monkeypatch):
    monkeypatch.setenv("CAKE_RAY_CPUS", "64")
    with pytest.raises(CakeError, match="No node of the cluster has room for a task of 64 cores; the largest has 1"):
        finished(synthesize(network, "cake", **SMALL, batches=2, shards=2))
    assert cluster.places() == 1


@needs_ray
def test_another_version_of_ray_is_refused(two, monkeypatch):
    monkeypatch.setattr(cluster, "PACKAGE", "ray==1.2.3")
    with pytest.raises(CakeError, match=r"runs Ray 2\.\d+\.\d+, this machine 1.2.3. Install the same on all nodes"):
        cluster._ask(two.cluster.address)


@needs_ray
def test_a_killed_node_costs_nothing_but_time(two, network, undisturbed):
    """The last with two nodes: afterwards the cluster has one."""
    run = disturbed(two, network, two.other, lambda process: two.lose())
    assert run.lost >= 1
    same(run.result, undisturbed)


# -- the command line, with a cluster of its own ----------------------------------------------------------------------


@needs_ray
def test_the_command_line_starts_a_cluster_and_leaves_nothing_behind(tmp_path, capsys):
    words = ["distill", "--data", "digits", "--out", "{}", "--json", "-", "--device", "cpu", "--threads", "1", "--set"]
    words += ["batches=4", "samples=20", "steps=4", "student.updates=20"]
    mark = secrets.token_hex(8)
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | RAY | {"CAKE_MARK": mark}
    command = [sys.executable, "-m", "cake_core", *(w.format(tmp_path / "ray") for w in words)]
    done = subprocess.run(
        [*command, "--engine", "ray", "--shards", "2"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    assert cli.main([w.format(tmp_path / "here") for w in words]) == 0
    found = [json.loads(text)["runs"][0] for text in (done.stdout, capsys.readouterr().out)]
    same(*(SyntheticSet.load(tmp_path / where / "samples.safetensors") for where in ("ray", "here")))
    assert found[0]["agreement"] == pytest.approx(found[1]["agreement"], abs=0.02)
    _, alive = psutil.wait_procs(marked(mark), timeout=20)
    assert not alive, alive


SERVER = """
import signal, sys, time
from cake_core.jobs import JobRunner
from cake_core.limits import Limits
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))  # as the server does
job = JobRunner(Limits()).submit("parameters", {"data_name": "moons"}, play=True)
while job.state != "done":
    time.sleep(0.05)
print("done", flush=True)
time.sleep(60)
"""


LEAVER = """
import time
from cake_core import cluster
for seconds in (0.0, 6.0):
    cluster.connect()
    process = cluster.ClusterProcess(lambda *message: None, lambda *end: None)
    time.sleep(seconds)
    process.close()
    cluster.leave()
    time.sleep(1)
    print("still here", bool(cluster._listening), flush=True)
"""


@needs_ray
@pytest.mark.long
def test_who_leaves_while_a_process_is_listened_to_goes_on():
    """Ray ends a process one of whose threads asks it after it has been left."""
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"CAKE_ENGINE": "ray"}
    done = subprocess.run(
        [sys.executable, "-c", LEAVER], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "still here False\n" * 2


@needs_ray
def test_a_server_that_is_told_to_end_takes_its_cluster_along():
    mark = secrets.token_hex(8)
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"CAKE_ENGINE": "ray", "CAKE_MARK": mark}
    server = subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline().strip() == "done"
        server.terminate()
        assert server.wait(30) == 7
        _, alive = psutil.wait_procs(marked(mark), timeout=20)
        assert not alive, alive
    finally:
        for process in marked(mark):
            process.kill()
