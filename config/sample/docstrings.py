"""Questions and answers from the docstrings of Python packages on this machine.

Source files are parsed, never imported. A question asks what a public function, class or module is
for, the answer is the first paragraph of its docstring; the contributor is the package.
"""

import ast
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

MIN_ANSWER = 40  # characters; below it is mostly "Return x."
MAX_ANSWER = 600
MAX_SOURCE = 400_000  # bytes of one file

# Each is one contributor of the sample.
STANDARD_LIBRARY = (
    *("asyncio", "collections", "datetime", "difflib", "email", "http", "importlib", "inspect"),
    *("json", "logging", "multiprocessing", "pathlib", "random", "socket", "statistics"),
    *("subprocess", "tarfile", "threading", "unittest", "urllib"),
)


@dataclass(frozen=True)
class Pair:
    """One question and its answer. `contributor` is the package it was read from."""

    contributor: str
    question: str
    answer: str


def standard_library(package: str, limit: int) -> list[Pair]:
    """At most `limit` pairs of one package of the standard library, in a stable order."""
    return _pairs_below(package, Path(sysconfig.get_paths()["stdlib"]), limit)


def installed(package: str, limit: int) -> list[Pair]:
    """At most `limit` pairs of an installed package; [] where it is not installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return []
    return _pairs_below(package, Path(spec.origin).parent.parent, limit)


def _pairs_below(package: str, folder: Path, limit: int) -> list[Pair]:
    pairs: list[Pair] = []
    asked: set[str] = set()
    for path in _sources(folder, package):
        for pair in _pairs_of(path, ".".join(path.relative_to(folder).with_suffix("").parts)):
            if pair.answer not in asked:
                asked.add(pair.answer)
                pairs.append(Pair(package, pair.question, pair.answer))
            if len(pairs) == limit:
                return pairs
    return pairs


def _sources(folder: Path, package: str) -> list[Path]:
    root = folder / package
    found = sorted(root.rglob("*.py")) if root.is_dir() else [folder / f"{package}.py"]
    return [
        path
        for path in found
        if path.is_file()
        and path.stat().st_size < MAX_SOURCE
        and not {"test", "tests", "idlelib", "migrations"} & set(path.parts)
        and (not path.stem.startswith("_") or path.stem == "__init__")
    ]


def _pairs_of(path: Path, module: str) -> Iterator[Pair]:
    module = module.removesuffix(".__init__")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    if answer := _answer(tree):
        yield Pair(module, f"What is the Python module `{module}` for?", answer)
    for node in tree.body:
        yield from _pairs_of_definition(node, module)


def _pairs_of_definition(node: ast.stmt, name: str) -> Iterator[Pair]:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    if node.name.startswith("_"):
        return
    full = f"{name}.{node.name}"
    is_class = isinstance(node, ast.ClassDef)
    if answer := _answer(node):
        asked = (
            f"What is `{full}` in Python?" if is_class else f"What does `{full}()` do in Python?"
        )
        yield Pair(name, asked, answer)
    if is_class:
        for inner in node.body:
            yield from _pairs_of_definition(inner, full)


def _answer(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The first paragraph of a docstring in one line, "" where it says too little or too much."""
    text = ast.get_docstring(node) or ""
    paragraph = re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0]
    line = " ".join(paragraph.split())
    says_something = MIN_ANSWER <= len(line) <= MAX_ANSWER and " " in line
    return line if says_something and not line.startswith((">>>", "Copyright")) else ""
