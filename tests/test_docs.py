"""What documents, help texts and messages name exists: commands, flags, values, files, tests, links."""

from __future__ import annotations

import argparse
import ast
import functools
import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import sqznet
from benchmarks import speed
from sqznet import recipes
from sqznet.evaluate import accuracy_report, scoring
from sqznet.predict import inference
from tests import commands, reference

ROOT = commands.ROOT
TEXTS = (".md", ".py", ".sh", ".yaml", "Dockerfile", "Makefile")
COMMAND = re.compile(r"python3? -m ((?:sqznet|benchmarks|tests)(?:\.\w+)+)([^\n`]*)")
PATH = re.compile(r"`((?:sqznet|tests|docs|benchmarks|deploy|export|data|\.ci)/[\w./-]*\.\w+|[\w-]+\.md)`")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
TEST = re.compile(r"`(?:\w+\.py::)?(test_\w+)`")
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z_0-9]*)(?![\w-])")
# Flags of other programs, which documents tell of.
FOREIGN = {"name", "net", "file", "tag", "flink_master", "logdir", "constraint", "editable", "shell"}
WRITTEN = re.compile(r"^(data|export/artifacts|runs|tuning|compressed)/")  # by commands; not part of the project


@functools.cache
def tracked() -> tuple[Path, ...]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file())


def texts() -> list[Path]:
    return [path for path in tracked() if path.name.endswith(TEXTS)]


def named(paths: list[Path]) -> list:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


DOCUMENTS = named([path for path in texts() if path.suffix == ".md"])


@functools.cache
def flags_of(module: str) -> dict[str, argparse.Action | None]:
    """The flags of a command; of a script of benchmarks/ or tests/, without what they take."""
    if module in commands.MODULES:
        return {flag: action for action in commands.parser_of(module)._actions for flag in action.option_strings}
    path = ROOT.joinpath(*module.split("."))
    source = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__main__.py"
    calls = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)]
    names = [arg.value for call in calls for arg in call.args if isinstance(arg, ast.Constant)]
    return {name: None for name in names if isinstance(name, str) and name.startswith("-")} | {"--help": None}


def commands_in(text: str) -> Iterator[tuple[str, list[str]]]:
    """Module and words of each command that a text shows; a line that ends with a backslash goes on."""
    for found in COMMAND.finditer(text.replace("\\\n", " ")):
        line = re.split(r"\s{2,}|\s#|[)|;&>]|, |\. |\"\s*$", found[2].split("'''")[0])[0]
        try:
            words = shlex.split(line)
        except ValueError:  # a quotation mark of the text around it
            words = line.replace('"', " ").replace("'", " ").split()
        if words and found[1] == "sqznet.core.child":  # which runs the command whose name follows
            yield words[0], words[1:]
        else:
            yield found[1].rstrip("."), words


def faults_of(module: str, words: list[str]) -> Iterator[str]:
    path = ROOT.joinpath(*module.split("."))
    if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file():
        yield f"there is no module {module}"
        return
    flags = flags_of(module)
    for word in words:
        if word == "--":  # what follows goes to another command
            return
        flag, _, value = word.partition("=")
        flag = flag.rstrip(".,:")
        if not re.fullmatch(r"--[a-z]\w*", flag):
            continue
        if flag not in flags:
            yield f"{module} has no flag {flag}"
            continue
        action = flags[flag]
        plain = re.fullmatch(r"[a-z0-9.]+", value)  # no placeholder, no list, no end of a sentence
        if action is not None and action.choices and plain and value.rstrip(".") not in action.choices:
            yield f"{module} takes {flag}={'|'.join(map(str, action.choices))}, not {value}"


@pytest.mark.parametrize("path", named(texts()))
def test_every_command_that_is_shown_exists_and_takes_these_flags(path):
    text = path.read_text() if path != Path(__file__) else ""  # which shows commands that do not exist
    faults = [fault for module, words in commands_in(text) for fault in faults_of(module, words)]
    assert not faults


def test_a_flag_or_a_value_that_no_command_takes_is_found():
    shown = """
        python -m sqznet.export --formats=tflite
        `python -m sqznet.evaluate --resize_as=windows`, python -m sqznet.trian --x
        python -m sqznet.launch --workers=2 -- --anything=1
        python -m tests.torture --no_such_flag
    """
    assert [fault for module, words in commands_in(shown) for fault in faults_of(module, words)] == [
        "sqznet.export has no flag --formats",
        "sqznet.evaluate takes --resize_as=mediapipe|android|ios, not windows",
        "there is no module sqznet.trian",
        "tests.torture has no flag --no_such_flag",
    ]


@functools.cache
def known_flags() -> frozenset[str]:
    modules = list(commands.MODULES)
    modules += [
        ".".join(script.relative_to(ROOT).with_suffix("").parts)
        for script in tracked()
        if script.suffix == ".py" and script.relative_to(ROOT).parts[0] in ("tests", "benchmarks")
    ]
    return frozenset(flag.removeprefix("--") for module in modules for flag in flags_of(module))


def unknown_flags(text: str) -> set[str]:
    return set(FLAG.findall(text)) - known_flags() - FOREIGN


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_flag_that_a_document_names_is_a_flag_of_some_command(path):
    assert not unknown_flags(path.read_text())


def test_a_flag_that_is_renamed_in_a_document_only_is_found():
    for flag in ("--max_drop", "--init_weights", "--save_minutes"):
        paths = [path for path in (ROOT / "docs").glob("*.md") if flag in path.read_text()]
        assert paths, flag
        for path in paths:
            renamed = path.read_text().replace(flag, f"{flag}_renamed")
            assert unknown_flags(renamed) == {f"{flag}_renamed".removeprefix("--")}, path.name


def test_the_reference_has_the_flags_that_the_parsers_have():
    assert reference.PAGE.read_text() == reference.page(), "run python -m tests.reference"


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_file_that_a_document_names_exists(path):
    by_name = {each.name for each in tracked()} | {"MODEL_CARD.md"}  # the latter is in every bundle
    present = path.read_text().split("\n## Renames\n")[0]  # what follows has old names
    for name in PATH.findall(present):
        if "/" not in name:
            assert name in by_name, name
        elif not WRITTEN.match(name):
            assert (ROOT / name).exists() or (path.parent / name).exists(), name


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_link_leads_somewhere(path):
    for target, anchor in LINK.findall(path.read_text()):
        where = (path.parent / target).resolve() if target else path
        assert where.exists(), f"{target} does not exist"
        if anchor and where.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", where.read_text(), re.MULTILINE)
            anchors = ["#" + re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in anchors, f"{where.name} has no heading {anchor}"


@pytest.mark.parametrize("path", DOCUMENTS)
def test_every_test_that_a_document_names_exists(path):
    written = "\n".join(each.read_text() for each in tracked() if each.name.startswith("test_"))
    modules = {each.stem for each in tracked()}
    for name in TEST.findall(path.read_text()):
        assert name in modules or f"def {name}(" in written, f"there is no {name}"


@pytest.mark.parametrize("path", DOCUMENTS)
def test_no_document_has_the_marks_of_a_merge_conflict(path):
    assert not re.search(r"^(<{7} |>{7} )", path.read_text(), re.MULTILINE)


def top_level_commands() -> set[str]:
    """What a user types; the data service is started by launch, and described in docs/cluster.md."""
    return set(commands.MODULES) - {"sqznet.data.service"}


@pytest.mark.parametrize("text", [(ROOT / "README.md").read_text(), sqznet.__doc__], ids=["README.md", "sqznet"])
def test_every_command_is_listed(text):
    assert {name for name in top_level_commands() if not re.search(rf"{name}\b(?!\.)", text)} == set()


def test_start_up_is_measured_of_every_command():
    assert {f"sqznet.{name}" for name in speed.COMMANDS} == top_level_commands()


def rows_of(path: Path, head: str) -> Iterator[list[str]]:
    """The rows of the table of a document whose first column is called `head`."""
    lines = path.read_text().split(f"\n| {head} |", 1)[1].splitlines()[2:]
    for line in itertools.takewhile(lambda line: line.startswith("|"), lines):
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_of_recipes_says_what_they_are():
    rows = {re.search(r"`([\w-]+)`", row[0])[1]: row[1] for row in rows_of(ROOT / "docs/train.md", "recipe")}
    assert set(rows) == set(recipes.RECIPES)
    for name, network in rows.items():
        recipe = recipes.RECIPES[name]
        if "--init_weights" in network:
            continue
        assert recipe.arch in network and f"{recipe.image_size} px" in network, name
        assert recipe.batch_norm == ("batch norm" in network), name
        assert (recipe.bypass != "none") == ("bypass" in network), name
        assert (recipe.bypass == "complex") == ("complex bypass" in network), name


def test_evaluations_are_called_what_the_document_says(trained_run, bundle, shard_set, tmp_path):
    text = (ROOT / "docs/evaluate.md").read_text()
    for path, stem in ((trained_run, "SPLIT"), (bundle / "model.tflite", "SPLIT-MODEL")):
        predictor = inference.load(path)
        accuracy_report.report(scoring.evaluate(predictor, shard_set, "val"), predictor, shard_set, "val", tmp_path)
        for name in (f"evaluation-{stem}.json", f"confusion-{stem}.png", f"reliability-{stem}.png"):
            assert f"`{name}`" in text
            written = name.replace("SPLIT", "val").replace("MODEL", path.name)
            assert (tmp_path / written).is_file(), written


def test_the_table_of_layers_has_every_room():
    rows = list(rows_of(ROOT / "BUILD_NOTES.md", "layer, top first"))
    rooms = {name for row in rows for name in re.findall(r"`(\w+)/`", row[1])}
    assert rooms == {path.parent.name for path in (ROOT / "sqznet").glob("*/__init__.py")}


@pytest.mark.parametrize("folder", ["docs/design", "benchmarks/experiments"])
def test_every_page_of_a_folder_is_in_its_list(folder):
    pages = {path.name for path in (ROOT / folder).glob("*.md")} - {"README.md"}
    assert {target for target, _ in LINK.findall((ROOT / folder / "README.md").read_text())} >= pages


@functools.cache
def texts_in_the_code() -> frozenset[str]:
    """Every piece of text in the package's code; what stands in braces parts the pieces of an f-string."""
    trees = [
        ast.parse(path.read_text())
        for path in tracked()
        if path.is_relative_to(ROOT / "sqznet") and path.suffix == ".py"
    ]
    nodes = itertools.chain.from_iterable(ast.walk(tree) for tree in trees)
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_every_message_that_troubleshooting_explains_is_one_of_the_package():
    page = ROOT / "docs/troubleshooting.md"
    messages = re.findall(
        r"^\| `(.*?)` \|", re.sub(r"(?s)\| what you see \|.*?\n\n", "", page.read_text()), re.MULTILINE
    )
    assert len(messages) > 40
    pieces = {(message, piece.strip()) for message in messages for piece in message.split("...") if piece.strip()}
    assert not sorted(message for message, piece in pieces if not any(piece in text for text in texts_in_the_code()))
