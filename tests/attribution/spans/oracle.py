"""The same questions answered by looking at every place, one by one."""

from collections.abc import Sequence

Records = Sequence[Sequence[int]]


def count(records: Records, run: Sequence[int]) -> int:
    return sum(
        list(record[at : at + len(run)]) == list(run)
        for record in records
        for at in range(len(record) - len(run) + 1)
    )


def longest(records: Records, answer: Sequence[int], start: int) -> int:
    length = 0
    while start + length < len(answer) and count(records, answer[start : start + length + 1]):
        length += 1
    return length


def maximal(records: Records, answer: Sequence[int]) -> list[tuple[int, int]]:
    runs = [(start, longest(records, answer, start)) for start in range(len(answer))]
    return [
        (start, length)
        for start, length in runs
        if length
        and not any(other < start and start + length <= other + size for other, size in runs)
    ]


def holders(records: Records, run: Sequence[int]) -> list[str]:
    return [f"r{row}" for row, record in enumerate(records) if count([record], run)]
