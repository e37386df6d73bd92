"""The same reports for other programs: as in the logs, after kills and resumes too."""

import csv
import json
import os
import struct

import pytest
from PIL import Image

from twofold.errors import TwofoldError
from twofold.reporting import exporters
from twofold.runs import Run, read_lines


def rows(run):
    """What metrics.csv should hold: each line of both logs, as text."""
    pairs = zip(read_lines(run.metrics), read_lines(run.timing), strict=True)
    return [{name: str(value) for name, value in exporters.flat(*pair).items()} for pair in pairs]


def scalars(run):
    """(images, value) of each curve in RUN/tensorboard, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    found = {
        name: [(each.step, each.value) for each in events.Scalars(name)] for name in events.Tags()["scalars"]
    }
    return found, events.Tags()["images"]


def in_csv(run):
    with (run.path / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def disturbed(lab):
    """A run killed between two states, after reports that the state before it knows nothing of, and gone on with."""
    out = lab.home / "logged"
    tokens = [*lab.tokens(out, training__report_every=2), "--log", "csv", "tensorboard"]
    assert lab.run(tokens, sabotage=("after step", 8)).code == -9
    assert lab.run(tokens).code == 0
    return Run(out)


def test_a_csv_has_a_row_a_report_after_a_kill(disturbed):
    assert [row["images"] for row in in_csv(disturbed)] == ["2", "4", "6", "8", "10", "12"]
    assert in_csv(disturbed) == rows(disturbed)


def test_tensorboard_shows_each_report_once_after_a_kill(disturbed):
    found, grids = scalars(disturbed)
    metrics = read_lines(disturbed.metrics)
    assert set(found) >= {"lr", "epoch", "images_per_s", "losses/gan_ab", "losses/disc_b"}
    for name in metrics[0]["losses"]:
        expected = [(row["images"], pytest.approx(row["losses"][name])) for row in metrics]
        assert found[f"losses/{name}"] == expected
    assert sorted(grids) == ["samples/ab", "samples/ba"]


def test_a_target_added_later_gets_what_was_before(lab, copied):
    run = Run(copied)
    lab.run(["train", "--resume", str(copied), "--epochs", "3", "--log", "tensorboard", "csv"])
    assert in_csv(run) == rows(run)
    found, _ = scalars(run)
    assert [images for images, _ in found["lr"]] == [row["images"] for row in read_lines(run.metrics)]
    assert len(found["lr"]) == 4


def test_a_target_asked_for_after_the_end_gets_all(command, copied):
    run = Run(copied)
    for _ in range(2):  # the second time changes nothing
        assert command("train", "--resume", copied, "--log", "csv", "tensorboard").code == 0
        assert in_csv(run) == rows(run)
        found, _ = scalars(run)
        assert [images for images, _ in found["lr"]] == [4, 8, 12]


def test_a_loss_that_comes_later_gets_a_column(tmp_path):
    run = Run(tmp_path)
    target = exporters.Csv(run)
    target.report({"images": 1.0, "losses/a": 0.5})
    target.report({"images": 2.0, "losses/a": 0.25, "losses/b": 7.0})
    target.report({"images": 3.0, "losses/b": 8.0})
    assert [row["losses/b"] for row in in_csv(run)] == ["", "7.0", "8.0"]


def test_what_stopped_a_run_is_no_report(tmp_path):
    run = Run(tmp_path)
    run.metrics.write_text(json.dumps({"images": 3, "not_finite": ["gan_ab"]}) + "\n")
    assert list(exporters.reports(run)) == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_named_before_anything_is_written(lab, tmp_path, command, monkeypatch, name):
    monkeypatch.setattr(exporters, "find_spec", lambda name: None)
    ended = command(*lab.tokens(tmp_path / "run"), "--log", name)
    assert ended.code == 2 and f"pip install 'twofold[{name}]'" in ended.output
    assert not (tmp_path / "run").exists()
    assert command(*lab.tokens(tmp_path / "run"), "--log", f"{name}s").code == 2


# ---- programs of others, which keep their own books

ROWS = [{"images": float(n), "epoch": n / 4, "lr": 2e-4, "losses/gan_ab": 1 / n} for n in (2, 4, 6, 8)]
GRID = Image.new("RGB", (6, 4), (90, 20, 10))


def told(run, make):
    """Reports as a run gives them that is killed once and goes on from the state at 4 images."""
    run.path.mkdir(exist_ok=True)
    run.env.write_text('[{"started": "2026-01-01", "command": "twofold train a b"}]')
    run.config.write_text("seed: 3\n")
    killed = make(run)
    for row in ROWS[:2]:
        killed.report(row)
        killed.picture(int(row["images"]), "ab", GRID)
    killed.flush()
    killed.report(ROWS[2])  # which the state at 4 images knows nothing of
    if isinstance(killed, exporters.WandB):  # which has one run at a time in a process
        killed.run.finish()
    again = make(run)
    for row in ROWS:
        again.report(row)
    again.picture(8, "ab", GRID)
    again.close()
    late = make(run)  # asked for after the end
    for row in ROWS:
        late.report(row)
    late.close()


def records(content, block=1 << 15):
    """The records of a file in LevelDB's log format, which W&B's are after a header of seven bytes."""
    place, parts = 7, []
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
        length, kind = struct.unpack_from("<HB", content, place + 4)  # after a checksum
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


def in_wandb(run):
    """(step, values) of each row that the offline files of RUN/wandb hold, in their order."""
    from wandb.proto import wandb_internal_pb2 as protocol

    rows, names = [], set()
    for file in sorted(run.path.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime):
        for content in records(file.read_bytes()):
            record = protocol.Record.FromString(content)
            if record.WhichOneof("record_type") == "run":
                names.add((record.run.run_id, record.run.project))
            elif record.WhichOneof("record_type") == "history":
                items = {
                    ".".join(x.nested_key) or x.key: json.loads(x.value_json) for x in record.history.item
                }
                rows.append((record.history.step.num, items))
    return rows, names


@pytest.fixture
def offline(monkeypatch):
    """Nothing of the surroundings decides where reports go."""
    for name in [name for name in os.environ if name.startswith(("WANDB", "MLFLOW"))]:
        monkeypatch.delenv(name)


def test_wandb_has_each_report_once_offline_under_one_name(tmp_path, offline):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    run = Run(tmp_path / "run")
    told(run, exporters.WandB)
    rows, names = in_wandb(run)
    assert names == {(exporters.identity(run), "twofold")}
    assert [step for step, _ in rows] == [2, 4, 6, 8]
    for (_, values), row in zip(rows, ROWS, strict=True):
        assert values["losses/gan_ab"] == row["losses/gan_ab"] and values["epoch"] == row["epoch"]
    assert [step for step, values in rows if values.get("samples/ab.width") == 6] == [2, 4, 8]


@pytest.mark.filterwarnings("default")
def test_mlflow_has_each_report_once_in_the_run_folder(tmp_path, offline, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    run = Run(tmp_path / "run")
    told(run, exporters.MLflow)
    client = MlflowClient(f"sqlite:///{run.path}/mlflow/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("twofold").experiment_id])
    history = client.get_metric_history(found.info.run_id, "losses/gan_ab")
    assert [(each.step, each.value) for each in history] == [
        (row["images"], row["losses/gan_ab"]) for row in ROWS
    ]
    assert found.info.status == "FINISHED" and found.info.run_name == "run"
    assert [each.path for each in client.list_artifacts(found.info.run_id, "samples")] == [
        f"samples/{n:09d}-ab.png" for n in (2, 4, 8)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.filterwarnings("default")
def test_what_others_log_changes_nothing_of_a_run(lab, finished, tmp_path, offline, command):
    for name in ("wandb", "mlflow"):
        pytest.importorskip(name, reason=f"the extra {name} is not installed")
    out = tmp_path / "run"
    tokens = [*lab.tokens(out), "--log", "wandb", "mlflow"]
    assert command(*tokens).code == 0
    assert lab.outcome(out) == lab.outcome(finished)
    assert [step for step, values in in_wandb(Run(out))[0] if "lr" in values] == [4, 8, 12]


class Unreachable:
    def __init__(self, run):
        self.asked = 0

    def report(self, values):
        self.asked += 1
        raise ConnectionError("no route\nto host")

    picture = flush = close = None


def test_a_server_that_is_gone_is_said_once_and_the_run_goes_on(tmp_path, monkeypatch):
    said = []
    monkeypatch.setitem(exporters.EXPORTERS, "mlflow", Unreachable)
    targets = exporters.Exporters(["mlflow"], Run(tmp_path), said.append)
    target = targets.targets["mlflow"]
    for row in ROWS:
        targets.report(row)
    targets.close()
    assert target.asked == 1
    assert len(said) == 1 and said[0].startswith("--log mlflow stopped: ConnectionError: no route to host;")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_server_that_refuses_at_the_start_is_one_line(tmp_path, monkeypatch, name):
    def refuse(run):
        raise ValueError("no\nkey")

    monkeypatch.setitem(exporters.EXPORTERS, name, refuse)
    with pytest.raises(TwofoldError, match=f"--log {name} cannot start: ValueError: no key"):
        exporters.Exporters([name], Run(tmp_path), print)
