"""The tables of the documents and the records that they are written from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import results
from sqznet.core.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables() -> dict[str, str]:
    return results.make_tables(results.load_records(ROOT), json.loads((ROOT / results.SPEED).read_text()))


@pytest.mark.parametrize("document", results.DOCUMENTS, ids=str)
def test_the_tables_of_a_document_are_those_of_the_records(document, tables):
    stale = results.differing((ROOT / document).read_text(), tables, document)
    assert not stale, "run: python benchmarks/results.py"


def test_each_document_has_a_generated_table():
    for document in results.DOCUMENTS:
        assert results.TABLE.search((ROOT / document).read_text()), document


def test_a_changed_figure_is_found_and_written_again(tables):
    text = "before\n<!-- results:accuracy -->\n<!-- /results -->\nafter\n"
    whole = results.filled(text, tables, Path("page.md"))
    assert whole.startswith("before\n") and whole.endswith("after\n")
    assert results.differing(whole, tables, Path("page.md")) == []
    changed = whole.replace("86.80 %", "86.90 %")
    assert results.differing(changed, tables, Path("page.md")) == ["accuracy"]
    assert results.filled(changed, tables, Path("page.md")) == whole


def test_a_table_that_does_not_exist_is_named(tables):
    text = "<!-- results:accurate -->\n<!-- /results -->"
    with pytest.raises(InputError, match=r"page.md has a table results:accurate; there are readme, accuracy"):
        results.differing(text, tables, Path("page.md"))


def test_several_seeds_give_mean_and_range_and_one_gives_the_interval(tables):
    def run(top1: float) -> results.Record:
        return {"evaluation": {"top1": top1, "top1_interval_95": [top1 - 0.02, top1 + 0.01]}}

    assert results._share([run(0.94), run(0.97)], "top1") == "95.50 % (94.00 to 97.00, 2 seeds)"
    assert results._share([run(0.94)], "top1") == "94.00 % (92.00 to 95.00)"
    assert results._share([run(0.94)], "top5") == results.UNKNOWN
    assert "(published)" in next(line for line in tables["accuracy"].splitlines() if "`article`" in line)


def test_a_measured_record_says_when_where_and_how_and_has_no_absolute_path():
    for path in (ROOT / results.RECORDS).glob("*.json"):
        record = json.loads(path.read_text())
        assert record["evaluation"]["n"] > 0
        assert "published" in record or {"seed", "date", "commit", "version", "processor", "commands"} <= set(record)
        assert not re.search(r'[" =:]/', path.read_text().replace("://", "")), path


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder with what train and evaluate leave there."""
    folder = tmp_path / "demo-3"
    folder.mkdir()
    command = ["python", "-m", "sqznet.train", "--data=data/demo", "--run_dir=runs/demo-3"]
    config = {"command": command, "recipe": {"seed": 3}, "sqznet": "1.0"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "timings.csv").write_text("epoch,images_per_second,seconds\n1,50,60\n2,50,66\n")
    evaluation = {
        "model": "runs/demo-3", "data": "data/demo", "source": "synthetic", "split": "test", "n": 600,
        "top1": 0.95, "top1_interval_95": [0.93, 0.96], "top5": 1.0, "top5_interval_95": [0.99, 1.0], "note": None,
    }  # fmt: skip
    (folder / "evaluation-test.json").write_text(json.dumps(evaluation))
    return folder


def test_a_record_is_made_of_what_the_commands_wrote(run):
    record = results.record_of(run, "demo", core_seconds=90, note="alone")
    assert (record["name"], record["seed"], record["train_minutes"], record["note"]) == ("demo", 3, 2.1, "alone")
    assert record["train_core_minutes"] == 1.5 and results._minutes([record]) == "1.5 core-minutes"
    assert record["evaluation"]["n"] == 600 and "note" not in record["evaluation"]
    assert record["commands"] == [
        "python -m sqznet.data --source=synthetic --out=data/demo",
        "python -m sqznet.train --data=data/demo --run_dir=runs/demo-3",
        "python -m sqznet.evaluate --model=runs/demo-3 --data=data/demo --split=test",
    ]
    assert re.fullmatch(r"[0-9a-f]{7}(\+changes)?", record["commit"])


def test_a_command_with_an_absolute_path_is_not_recorded(run):
    config = json.loads((run / "config.json").read_text())
    config["command"][-1] = "--run_dir=/home/me/runs/demo-3"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="names an absolute path; repeat the run with relative ones"):
        results.record_of(run, "demo")


def test_a_run_that_was_not_evaluated_is_not_recorded(run):
    (run / "evaluation-test.json").unlink()
    with pytest.raises(InputError, match="has 0 files evaluation-"):
        results.record_of(run, "demo")


def test_check_exits_with_0_where_all_tables_agree(capsys):
    assert results.main(["--check"]) == 0
    assert capsys.readouterr().out == ""
