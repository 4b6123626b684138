"""A list of turns in the dialects people upload (OpenAI messages, ShareGPT) as our messages."""

from typing import Any

from datanets.ingest import jsontext
from datanets.ingest.faults import ValueFault
from datanets.ingest.payload import ASSISTANT, SYSTEM, USER, require_text

ROLES = {
    "system": SYSTEM,
    "developer": SYSTEM,
    "user": USER,
    "human": USER,
    "prompter": USER,
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "bot": ASSISTANT,
    "model": ASSISTANT,
}
MAX_TURNS = 512


def messages_of(value: Any, column: str, *, limit: int) -> list[dict[str, str]]:
    """Turns as [{"role", "content"}, …] that alternate and end with the assistant.

    value: a list of objects, or that list as JSON text (CSV). Raises ValueFault.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = jsontext.decode(value.encode(), depth=8)
    if not isinstance(value, list) or not value:
        raise ValueFault("MESSAGES", f"“{column}” is no list of messages.", column)
    if len(value) > MAX_TURNS:
        raise ValueFault(
            "MESSAGES", f"“{column}” has {len(value)} turns; {MAX_TURNS} are allowed.", column
        )
    turns = [_turn(turn, i, column, limit) for i, turn in enumerate(value, start=1)]
    _require_order(turns, column)
    return turns


def _turn(turn: Any, index: int, column: str, limit: int) -> dict[str, str]:
    where = f"{column}[{index}]"
    if not isinstance(turn, dict):
        raise ValueFault("MESSAGES", f"Turn {index} is no object with role and content.", where)
    name = turn.get("role", turn.get("from"))
    role = ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise ValueFault(
            "ROLE",
            f"Turn {index} has the role {_shown(name)}. Use system, user or assistant (or human "
            "and gpt).",
            where,
        )
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list):
        content = _join_parts(content, index, where)
    return {"role": role, "content": require_text(content, where, limit=limit)}


def _join_parts(parts: list[Any], index: int, where: str) -> str:
    pieces = []
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise ValueFault(
                "MEDIA", f"Turn {index} holds something else than text. Keep text only.", where
            )
        pieces.append(part["text"])
    return "".join(pieces)


def _require_order(turns: list[dict[str, str]], column: str) -> None:
    spoken = turns[1:] if turns[0]["role"] == SYSTEM else turns
    for index, turn in enumerate(spoken):
        expected = USER if index % 2 == 0 else ASSISTANT
        if turn["role"] != expected:
            number = index + 1 + len(turns) - len(spoken)
            raise ValueFault(
                "ORDER",
                f"Turn {number} is by the {turn['role']}, expected was the {expected}: user and "
                "assistant take turns, a system message stands first.",
                column,
            )
    if not spoken or spoken[-1]["role"] != ASSISTANT:
        raise ValueFault(
            "NO_ANSWER",
            "The conversation has no assistant's turn at its end, so there is nothing to learn "
            "from. Add the answer.",
            column,
        )


def _shown(name: Any) -> str:
    return f"“{name[:40]}”" if isinstance(name, str) else "missing"
