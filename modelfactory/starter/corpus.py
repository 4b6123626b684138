"""Text that any Python installation carries, as documents and as questions with answers.

Sources: docstrings of the standard library and of the installed packages whose licence is
permissive, the language reference in `pydoc_data`, and the packages' own descriptions.
Nothing is downloaded and nothing is executed: sources are parsed, not imported.

The same installation and seed give the same corpus. A docstring falls on the training or the
held-out side by the hash of its text, so that its document form and its question form never
stand on different sides.
"""

import ast
import hashlib
import importlib.metadata
import inspect
import pydoc_data.topics
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HELD_OUT_PERMILLE = 15
MAX_DOCUMENT = 6_000  # characters; longer texts are cut at a paragraph
MAX_ANSWER = 1_100
COPYLEFT = re.compile(r"\b(A|L)?GPL|General Public Licen[sc]e|CC-BY-NC", re.IGNORECASE)
FIELD_LIST = re.compile(
    r"(Parameters|Returns?|Args|Arguments|Raises|Yields|Attributes|Keyword Args|Keyword Arguments"
    r"|Examples?|See Also|References|Usage|Methods)\s*(-{3,}|:+\s|={3,})"
    r"|:\w+( \w+)*:|\d+\.\s|\[\d+\]"
)
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "lib2to3", "_vendor", "vendored", "site-packages"}


@dataclass(frozen=True)
class Passage:
    """One cleaned docstring: where it stands and what it says."""

    name: str
    kind: str  # module, class, function, topic or package
    text: str


@dataclass
class Corpus:
    """Conversations (lists of (role, content)) and plain documents, on two sides."""

    training: list[str | list[tuple[str, str]]] = field(default_factory=list)
    held_out: list[str | list[tuple[str, str]]] = field(default_factory=list)
    sources: dict[str, int] = field(default_factory=dict)


def collect(*, seed: int, limit_per_package: int = 1_200_000) -> Corpus:
    """Gather, clean, deduplicate and split everything; `limit_per_package` is in characters."""
    corpus, seen = Corpus(), set[bytes]()
    chosen = random.Random(seed)
    for source, passages in sources():
        taken = 0
        for passage in passages:
            text = clean(passage.text, seen)
            if len(text) < 60:
                continue
            taken += len(text)
            side = corpus.held_out if is_held_out(text) else corpus.training
            side.append(text if passage.kind == "package" else f"{passage.name}\n\n{text}")
            side.extend(questions(Passage(passage.name, passage.kind, text), chosen))
            if taken > limit_per_package:
                break
        corpus.sources[source] = taken
    for side in (corpus.training, corpus.held_out):
        chosen.shuffle(side)
    return corpus


def sources() -> Iterator[tuple[str, Iterator[Passage]]]:
    """Every source by name, in an order that does not depend on the file system."""
    topics = pydoc_data.topics.topics
    yield (
        "python language reference",
        (Passage(name, "topic", topics[name]) for name in sorted(topics)),
    )
    yield "python standard library", docstrings(Path(sysconfig.get_path("stdlib")))
    site = Path(sysconfig.get_path("purelib"))
    for distribution in sorted(importlib.metadata.distributions(), key=_name):
        label = f"{_name(distribution)} {distribution.version}"
        if not is_permissive(distribution):
            continue
        yield label, _of_distribution(distribution, site)


def _of_distribution(
    distribution: importlib.metadata.Distribution, site: Path
) -> Iterator[Passage]:
    metadata: Any = distribution.metadata
    description = metadata.get("Description") or metadata.get_payload()
    if isinstance(description, str) and description:
        yield Passage(_name(distribution), "package", description)
    tops = sorted({file.parts[0] for file in distribution.files or () if file.suffix == ".py"})
    for top in tops:
        if (site / top).is_dir() and not top.endswith((".dist-info", "-stubs")):
            yield from docstrings(site / top, prefix=(top,))


def _name(distribution: importlib.metadata.Distribution) -> str:
    return (distribution.metadata["Name"] or "").lower()


def is_permissive(distribution: importlib.metadata.Distribution) -> bool:
    """Whether the package states a licence and none of its statements is copyleft."""
    metadata: Any = distribution.metadata
    stated = [
        metadata.get("License-Expression") or "",
        (metadata.get("License") or "")[:200],
        *(c for c in metadata.get_all("Classifier") or () if c.startswith("License")),
    ]
    return any(stated) and not any(COPYLEFT.search(text) for text in stated)


def docstrings(root: Path, prefix: tuple[str, ...] = ()) -> Iterator[Passage]:
    """Docstrings of all public and private objects below a folder, by parsing alone."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if SKIPPED_FOLDERS & set(parts) or any(p.startswith("test_") for p in parts):
            continue
        names = tuple(p for p in prefix + parts if p != "__init__")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
            continue
        yield from _walk(tree, ".".join(names))


def _walk(node: ast.Module | ast.ClassDef | ast.FunctionDef, name: str) -> Iterator[Passage]:
    text = ast.get_docstring(node)
    if text:
        kinds = {ast.Module: "module", ast.ClassDef: "class"}
        yield Passage(name, kinds.get(type(node), "function"), text)
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(child, f"{name}.{child.name}")  # type: ignore[arg-type]


def clean(text: str, seen: set[bytes]) -> str:
    """Prose without examples, markup and tables; a paragraph counts once in the whole corpus."""
    text = inspect.cleandoc(text)
    text = re.sub(r":[\w:+-]+:`~?([^`<]*?)(?:\s*<[^`]*>)?`", r"\1", text)
    text = re.sub(r"`+([^`\n]+)`+_*", r"\1", text)
    text = re.sub(r"!?\[([^\]\n]*)\]\([^)\n]*\)|<[^>\n]{1,200}>|https?://\S+", r"\1", text)
    kept, size = [], 0
    for paragraph in re.split(r"\n\s*\n", text):
        if not is_prose(paragraph):
            continue
        paragraph = re.sub(r"[ \t]*\n[ \t]*", " ", paragraph.strip())
        paragraph = re.sub(r"\*\*|^[#>*=\- ]+|::$", "", paragraph).strip()
        key = hashlib.blake2b(paragraph.lower().encode(), digest_size=8).digest()
        if key in seen or not paragraph:
            continue
        seen.add(key)
        size += len(paragraph)
        if size > MAX_DOCUMENT:
            break
        kept.append(paragraph)
    return "\n\n".join(kept)


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph reads like sentences, not like code, a table or a list of fields."""
    body = paragraph.strip()
    if body.startswith((">>>", "...", ".. ", "$ ", "|", "+-", "```", "@", "import ", "from ")):
        return False
    if (
        FIELD_LIST.match(body)
        or ">>>" in body
        or body.count("=") > 3
        or body.count("_") > 0.04 * len(body) + 3
    ):
        return False
    letters = sum(c.isalpha() or c == " " for c in body)
    words = body.split()
    return len(words) >= 4 and letters >= 0.82 * len(body)


def questions(passage: Passage, chosen: random.Random) -> list[list[tuple[str, str]]]:
    """What a person might ask about this object, answered in its own words."""
    last = passage.name.rpartition(".")[2]
    if last.startswith("_") or passage.kind == "package":
        return []
    answer = _opening(passage.text)
    ask = chosen.choice(
        {
            "module": ["What is the {n} module?", "What is {n} for?", "What is in {n}?"],
            "class": ["What is {n}?", "What is {n} for?", "Tell me about {n}."],
            "function": ["What does {n} do?", "What is {n} for?", "Explain {n}."],
            "topic": ["What is {n} in Python?", "Tell me about {n}.", "Explain {n}."],
        }[passage.kind]
    )
    named = passage.name if chosen.random() < 0.6 else last
    return [[("user", ask.format(n=named)), ("assistant", answer)]]


def _opening(text: str) -> str:
    """The first paragraphs, whole, up to `MAX_ANSWER` characters."""
    answer = ""
    for paragraph in text.split("\n\n"):
        if answer and len(answer) + len(paragraph) > MAX_ANSWER:
            break
        answer = f"{answer}\n\n{paragraph}".strip()
    return answer[: 2 * MAX_ANSWER]


def is_held_out(text: str) -> bool:
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 1000 < HELD_OUT_PERMILLE
