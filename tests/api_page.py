"""Writes docs/api.md: every public name of sqznet, taken from the docstrings.

python -m tests.api_page
    run it after a public name, its signature or its docstring has changed; a test compares the page with the package
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import sqznet
from sqznet.recipes import named
from tests import commands

PAGE = commands.ROOT / "docs" / "api.md"
HEAD = """\
# Python API

`python -m tests.api_page` generates this page from the docstrings. These five calls train a network on your
photographs and export it:

```python
import sqznet

sqznet.build_shards("photos", "data/mine")  # photos/<class>/*.jpg to TFRecord shards
run = sqznet.fit("data/mine", recipe="finetune")  # starts from the published ImageNet weights
print(run.best.evaluate())  # top-1 accuracy on the test split
print(run.best.predict("photo.jpg"))  # the five most probable classes
run.best.export("export/artifacts/mine", formats="tflite")  # a verified file for phones
```

`import sqznet` takes milliseconds. TensorFlow is imported when a function needs it. Import sqznet before TensorFlow
or Keras: sqznet then makes TensorFlow faster on most processors.

The packages `sqznet.train`, `sqznet.evaluate` and `sqznet.export` are commands. Therefore the functions have other
names. The programs in [examples/](../examples) and the [notebook](notebooks/photographs_to_phone.ipynb) are complete.
"""
GROUPS = {
    "Functions": ("build_shards", "fit", "load", "dataset", "SqueezeNet", "set_verbose"),
    "Models and runs": ("Classifier", "TrainingRun", "Recipe"),
    "Results": ("Shards", "Evaluation", "Prediction", "Ranking", "Predictions", "ClassMap", "Bundle"),
    "Callbacks": ("Callback", "ActiveRun", "CSVLogger", "TensorBoard", "MLflow", "WandB"),
    "Errors": ("InputError", "CheckFailed"),
}
FIELDS = """\
Each field is also a flag of `train`. The [reference](reference.md#sqznettrain) lists the fields with their defaults.
`sqznet.recipes.RECIPES` contains the named recipes. `demo` is the quickest one, and `epochs` shortens any of them.
"""
MADE_BY_USERS = {"CSVLogger", "TensorBoard", "MLflow", "WandB"}  # classes whose signature is of use
ALIASES = {
    "FilePath": "str | Path",
    "Photograph": "str | Path | PIL.Image.Image | np.ndarray",
    "_Names": "str | Iterable[str]",
    "Line": "dict[str, float]",
}
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):\n((?:    .*\n?|\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^(\w+(?:, \w+)*): (.*(?:\n +.*)*)", re.MULTILINE)
WIDTH = 120


def page() -> str:
    """The whole page."""
    contents = (
        f"- {title}: " + ", ".join(f"[{name}](#{anchor(name)})" for name in names) for title, names in GROUPS.items()
    )
    groups = ("\n".join([f"## {title}\n", *map(public, names)]) for title, names in GROUPS.items())
    return "\n".join([HEAD, *map(wrapped, contents), "", *groups]).rstrip() + "\n"


def anchor(name: str) -> str:
    return f"sqznet{name.lower()}"


def public(name: str) -> str:
    """One public name: a function, or a class with its members."""
    found = getattr(sqznet, name)
    parts = [f"### sqznet.{name}\n"]
    if not inspect.isclass(found) or name in MADE_BY_USERS:
        parts.append(code(f"sqznet.{name}", found))
    parts.append(text_of(found))
    parts += [FIELDS, recipe_table()] if name == "Recipe" else []
    if inspect.isclass(found) and not issubclass(found, Exception):
        parts += members(found)
    return "\n".join(parts)


def recipe_table() -> str:
    """The named recipes: the first line of the text below each constant of named.py, and what decides the time."""
    body = ast.parse(inspect.getsource(named)).body
    texts = {
        assigned.targets[0].id: str(below.value.value).partition("\n")[0]
        for assigned, below in itertools.pairwise(body)
        if isinstance(assigned, ast.Assign)
        and isinstance(assigned.targets[0], ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }
    lines = ["| recipe | network | pixels | epochs | purpose |", "| --- | --- | --- | --- | --- |"]
    for recipe in named.RECIPES.values():
        (text,) = (texts[name] for name, value in vars(named).items() if value is recipe and name in texts)
        epochs = recipe.epochs if recipe.total_steps is None else f"{recipe.total_steps:,} steps"
        lines.append(f"| `{recipe.name}` | {recipe.arch} | {recipe.image_size} | {epochs} | {text} |")
    return "\n".join(lines) + "\n"


def members(found: type) -> Iterator[str]:
    """The documented fields, properties and methods of a class, in the order of the source."""
    listed = [wrapped(f"- `{name}`: {one_line(described)}") for name, described in attributes(found)]
    yield from [*listed, ""] if listed else []
    for name, member in vars(found).items():
        function = getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function) and function.__doc__:
            yield f"#### {found.__name__}.{name}\n"
            yield code(f"{found.__name__}.{name}", function, drop_first=True)
            yield text_of(function)


def attributes(found: type) -> Iterator[tuple[str, str]]:
    """Name with type, and text, of each field with a text below it and of each property."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(found))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = str(below.value.value)
    types = {field.name: str(field.type) for field in dataclasses.fields(found)} if texts else {}
    for name, text in texts.items():
        yield f"{name}: {plain(types[name])}", text
    for name, member in vars(found).items():
        if isinstance(member, property) and not name.startswith("_") and member.__doc__:
            yield f"{name}: {plain(member.fget.__annotations__['return'])}", inspect.cleandoc(member.__doc__)


def code(name: str, function: Any, *, drop_first: bool = False) -> str:
    """The signature as a block of code, on one line if it fits."""
    signature = inspect.signature(function)
    given = list(signature.parameters.values())[1 if drop_first else 0 :]
    parameters = [parameter(each) for each in given]
    keyword = next((index for index, each in enumerate(given) if each.kind is each.KEYWORD_ONLY), None)
    if keyword is not None:
        parameters.insert(keyword, "*")
    returned = signature.return_annotation
    back = "" if returned is signature.empty or inspect.isclass(function) else f" -> {plain(returned)}"
    line = f"{name}({', '.join(parameters)}){back}"
    if len(line) > WIDTH - 20:
        line = f"{name}(\n" + "".join(f"    {each},\n" for each in parameters) + f"){back}"
    return f"```python\n{line}\n```\n"


def parameter(of: inspect.Parameter) -> str:
    stars = {of.VAR_POSITIONAL: "*", of.VAR_KEYWORD: "**"}.get(of.kind, "")
    default = "" if of.default is of.empty else " = " + re.sub(r"^'(.*)'$", r'"\1"', repr(of.default))
    return f"{stars}{of.name}: {plain(of.annotation)}{default}"


def plain(annotation: str) -> str:
    """Replaces the package's own names of types."""
    return re.sub(r"\b_?\w+\b", lambda found: ALIASES.get(found[0], found[0]), annotation)


def text_of(found: Any) -> str:
    """The docstring as Markdown: paragraphs, a list for each section."""
    described = inspect.getdoc(found) or ""
    body = SECTION.sub("", described + "\n").strip()
    parts = ["\n\n".join(map(wrapped, body.split("\n\n"))) + "\n"]
    for title, content in SECTION.findall(described + "\n"):
        content = textwrap.dedent(content).strip()
        if title == "Returns":
            parts.append(wrapped(f"Returns: {one_line(content)}") + "\n")
            continue
        parts.append(f"{title}:\n")
        parts += [wrapped(f"- `{names}`: {one_line(described)}") for names, described in ENTRY.findall(content)]
        parts.append("")
    return "\n".join(parts)


def one_line(text: str) -> str:
    return " ".join(text.split())


def wrapped(text: str) -> str:
    if text.startswith("    "):
        return f"```python\n{textwrap.dedent(text)}\n```"
    indent = "  " if text.startswith("- ") else ""
    words = re.sub(r"`[^`]*`", lambda found: found[0].replace(" ", "\0"), one_line(text))
    lines = textwrap.wrap(words, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(commands.ROOT)} is written")
