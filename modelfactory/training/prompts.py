"""From a record or a conversation to the tokens that a model reads, without torch.

The web process counts tokens with this module, training and attribution take their loss masks
from it, so all rooms agree on every token. Templates come with a model and are untrusted code:
they run in jinja2's immutable sandbox and see nothing but strings.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

ZERO_WIDTH_SPACE = "\u200b"
ROLES = ("system", "user", "assistant")
# For a base model that brings no template of its own.
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'].capitalize() + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


class PromptError(ValueError):
    """A conversation that this model's template does not accept, with the reason for people."""


@dataclass(frozen=True)
class Example:
    """One training example. `loss_mask[i]` is 1 where token i is to be predicted."""

    input_ids: list[int]
    loss_mask: list[int]
    full_length: int  # tokens before the cutoff was applied


class PromptTokenizer:
    """Tokenizer, special tokens and chat template of one base model."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: str = PLAIN_TEMPLATE,
        special: Mapping[str, str] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.special = dict(special or {})
        self.has_own_template = template is not PLAIN_TEMPLATE
        self._template = _environment().from_string(template)
        self._says_tools = "tools" in template
        added = tokenizer.get_added_tokens_decoder().values()
        spelt = [re.escape(token.content) for token in added if token.special]
        self._spelt_special = re.compile("|".join(spelt)) if spelt else None

    def encode(self, text: str) -> list[int]:
        """Tokens of `text`; special tokens that are spelt out in it become themselves."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def token_text(self, token: int) -> str:
        """What one token spells; half a character is a replacement character."""
        return self.tokenizer.decode([token], skip_special_tokens=False)

    @property
    def takes_tools(self) -> bool:
        """Whether the chat template says anything of tools."""
        return self._says_tools

    def special_id(self, name: str) -> int | None:
        """Token id of "bos_token", "eos_token" or "pad_token", None where the model has none."""
        text = self.special.get(name)
        return None if not text else self.tokenizer.token_to_id(text)

    @property
    def vocabulary_size(self) -> int:
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def _as_text(self, content: str) -> str:
        """`content` with spelt-out special tokens broken, so that nobody's words end their turn
        and begin another's."""
        return self._spelt_special.sub(_broken, content) if self._spelt_special else content

    def _as_plain(self, value: Any) -> Any:
        """The same for every text in a value of JSON."""
        if isinstance(value, str):
            return self._as_text(value)
        if isinstance(value, Mapping):
            return {self._as_text(str(k)): self._as_plain(v) for k, v in value.items()}
        if isinstance(value, Sequence):
            return [self._as_plain(one) for one in value]
        return value

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        for_answer: bool,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Text of a conversation; `for_answer` ends it where the assistant would begin."""
        plain = [self._as_plain(message) for message in messages]
        try:
            return self._template.render(
                messages=plain,
                tools=self._as_plain(tools) or None,
                documents=None,
                add_generation_prompt=for_answer,
                **self.special,
            )
        except (jinja2.TemplateError, TypeError, ValueError, OverflowError) as error:
            raise PromptError(f"The model's chat template refuses this: {error}") from error


def _broken(token: re.Match[str]) -> str:
    return f"{token[0][:1]}{ZERO_WIDTH_SPACE}{token[0][1:]}"


def load_tokenizer(folder: Path | str) -> PromptTokenizer:
    """Read tokenizer.json, tokenizer_config.json and the chat template of a model folder.

    Raises PromptError where the folder has no usable fast tokenizer.
    """
    path = Path(folder) / "tokenizer.json"
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise PromptError(f"There is no tokenizer.json in {folder}.") from error
    return _load(str(folder), stamp)


@lru_cache(maxsize=16)
def _load(folder: str, stamp: int) -> PromptTokenizer:
    root = Path(folder)
    try:
        tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
    except Exception as error:  # tokenizers raises bare Exception for a bad file
        raise PromptError(f"tokenizer.json cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = _read_json(root / "tokenizer_config.json")
    special = {
        name: _token_text(config[name])
        for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        if config.get(name)
    }
    try:
        return PromptTokenizer(tokenizer, template=_template_of(root, config), special=special)
    except jinja2.TemplateError as error:
        raise PromptError(f"The chat template cannot be read: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _token_text(value: Any) -> str:
    return str(value["content"]) if isinstance(value, dict) else str(value)


def _template_of(root: Path, config: Mapping[str, Any]) -> str:
    """The template file goes before the setting, as in transformers."""
    file = root / "chat_template.jinja"
    if file.exists():
        return file.read_text("utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return str(template) if template else PLAIN_TEMPLATE


def render_prompt(
    messages: Sequence[Mapping[str, Any]],
    tokenizer: PromptTokenizer,
    tools: Sequence[Mapping[str, Any]] = (),
) -> list[int]:
    """Tokens of a conversation up to where the assistant's answer begins.

    Raises PromptError for an empty conversation, an unknown role, or what the template refuses:
    tools, where it has no word of them.
    """
    if tools and not tokenizer.takes_tools:
        raise PromptError("This model's chat template takes no tools. Ask without them.")
    _check_messages(messages, with_tools=bool(tools))
    return tokenizer.encode(tokenizer.render(messages, for_answer=True, tools=tools))


def render_example(payload: Mapping[str, Any], tokenizer: PromptTokenizer, cutoff: int) -> Example:
    """Tokens and loss mask of a record, cut to `cutoff` tokens.

    Of a conversation only the assistant's tokens are learnt, of a plain text all.
    Raises PromptError where the payload is neither, or the template refuses it.
    """
    if "messages" in payload:
        ids, mask = _conversation(payload["messages"], tokenizer)
    elif isinstance(payload.get("text"), str) and payload["text"].strip():
        ids, mask = _text(payload["text"], tokenizer)
    else:
        raise PromptError("The record has neither messages nor a text.")
    return Example(ids[:cutoff], mask[:cutoff], len(ids))


def _text(text: str, tokenizer: PromptTokenizer) -> tuple[list[int], list[int]]:
    begin, end = tokenizer.special_id("bos_token"), tokenizer.special_id("eos_token")
    body = tokenizer.encode(text) + ([] if end is None else [end])
    head = [] if begin is None else [begin]
    return head + body, [0] * len(head) + [1] * len(body)


def _conversation(
    messages: Sequence[Mapping[str, str]], tokenizer: PromptTokenizer
) -> tuple[list[int], list[int]]:
    _check_messages(messages)
    whole = tokenizer.render(messages, for_answer=False)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = tokenizer.render(messages[:index], for_answer=True)
        after = tokenizer.render(messages[: index + 1], for_answer=False)
        if not (whole.startswith(before) and whole.startswith(after)):
            raise PromptError(
                "The chat template rewrites earlier turns, so the answer's tokens cannot be told."
            )
        # Some templates end every turn with a line break that nobody needs to learn.
        spans.append((len(before), len(after.rstrip())))
    encoding = tokenizer.tokenizer.encode(whole, add_special_tokens=False)
    mask = [
        int(any(start <= first and last <= end for start, end in spans) and last > first)
        for first, last in encoding.offsets
    ]
    return list(encoding.ids), mask


def _check_messages(messages: Any, *, with_tools: bool = False) -> None:
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise PromptError("The conversation has no messages.")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise PromptError(f"Message {number} has no text content.")
        if message.get("role") not in ROLES + (("tool",) if with_tools else ()):
            raise PromptError(
                f"Message {number} has the role {message.get('role')!r}; "
                "a role is system, user or assistant."
            )


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    """The same dialect that transformers gives its templates."""

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class _Generation(jinja2.ext.Extension):
    """Accepts `{% generation %}` blocks, which mark the assistant's part, and renders them."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
