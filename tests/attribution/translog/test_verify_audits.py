"""All that an exact audit says of a receipt follows from the integers of both, or it is refused."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribution.exact_bodies import Found, NotReplayed, _part
from attribution.translog.audited import MERGED_SCHEMA, SCHEMA, check_audited, correlation_ppm
from attribution.translog.money import MoneyError, compute_shares
from tests import page_scripts

PROGRAM = """
result = [];
for (const bundle of given) {
  result.push(await script.checkAudited(bundle).then(() => true, () => false));
}
"""

influences = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.integers(-(10**24), 10**24) | st.integers(-3, 3),
    min_size=1,
)


def receipt_of(stated, *, clear=True, name="m"):
    shares = compute_shares(stated) if clear else {}
    groups = {group: str(value) for group, value in stated.items()}
    return {"model": {"id": name}, "influence": {"groups": groups}, "shares": shares}


def pair_of(stated, exact, *, clear=True):
    """A statement as the house writes it, and its receipt."""
    first = receipt_of(stated, clear=clear)
    told = _part(first, Found(exact, records=9, left_out=0, steps=12))
    return {"schema": SCHEMA, "model": first["model"], "moves_money": False, **told}, first


def merged_pair(*parts):
    first, told = [], []
    for place, (stated, found) in enumerate(parts):
        one = receipt_of(stated, name=f"m{place}") | {"share_ppb": 10**9 // len(parts)}
        first.append(one)
        named = {name: one[name] for name in ("model", "share_ppb")}
        told.append(named | _part(one, found))
    statement = {"schema": MERGED_SCHEMA, "model": None, "moves_money": False}
    return statement | {"merge": {"parents": told}}, {"model": None, "merge": {"parents": first}}


def holds(statement, first):
    try:
        check_audited(statement, first)
    except (MoneyError, LookupError, TypeError, AttributeError, ValueError):
        return False
    return True


@given(influences, influences, st.booleans())
def test_what_the_house_writes_holds(stated, exact, clear):
    assert holds(*pair_of(stated, exact, clear=clear))


STATED = {"a": 5 * 10**20, "b": -7, "c": 3 * 10**20, "d": 1}
EXACT = {"a": -2, "b": 10**18, "c": 10**18, "e": 4}

LIES = {
    "share by replay": lambda one: one["exact_shares"].update(a=1),
    "share by index": lambda one: one["index_shares"].pop("c"),
    "influence": lambda one: one["influence"].update(b="2000000000000000000"),
    "a group left out": lambda one: one["influence"].pop("d"),
    "difference": lambda one: one["difference"].update(a=-1),
    "difference left out": lambda one: one["difference"].pop("a"),
    "largest": lambda one: one.update(largest_difference_ppb=0),
    "elsewhere": lambda one: one.update(elsewhere_ppb=one["elsewhere_ppb"] - 1),
    "correlation": lambda one: one.update(correlation_ppm=one["correlation_ppm"] + 1),
    "no correlation": lambda one: one.update(correlation_ppm=None),
    "paid": lambda one: one.update(was_paid=False),
    "both": lambda one: one.update(not_replayed="No."),
    "not an integer": lambda one: one["influence"].update(a="1.5"),
}
OF_ALL = {
    "moves money": lambda told: told.update(moves_money=True),
    "credits": lambda told: told.update(credits=[]),
    "schema": lambda told: told.update(schema="openledger-exact-audit/2"),
    "model": lambda told: told.update(model={"id": "other"}),
}


def cases():
    """(name, statement, receipt, whether it holds)."""
    gone = NotReplayed("Its records were withdrawn.")
    found = Found(EXACT, records=9, left_out=0, steps=12)
    true = {
        "one": pair_of(STATED, EXACT),
        "unclear": pair_of(STATED, EXACT, clear=False),
        "nobody helped": pair_of({"a": -1}, {"a": -1, "b": 0}),
        "two": merged_pair((STATED, found), ({"a": 1}, gone)),
    }
    for name, (told, first) in true.items():
        yield name, told, first, True
    told, first = true["one"]
    for name, lie in {**LIES, **OF_ALL}.items():
        changed = copy.deepcopy(told)
        lie(changed)
        yield name, changed, first, False
    told, first = true["two"]
    for name, lie in LIES.items():
        changed = copy.deepcopy(told)
        lie(changed["merge"]["parents"][0])
        yield f"{name} of one of two", changed, first, False
    changed = copy.deepcopy(told)
    changed["merge"]["parents"].reverse()
    yield "the other order", changed, first, False
    yield "of one alone", true["one"][0], first, False
    yield "of several", told, true["one"][1], False
    yield "like one", {**told, "difference": {}}, first, False
    missing = copy.deepcopy(told)
    missing["merge"]["parents"].pop()
    yield "one left out", missing, first, False
    figures = copy.deepcopy(told)
    figures["merge"]["parents"][1]["difference"] = {}
    yield "figures of one that was not replayed", figures, first, False


@pytest.mark.parametrize(
    ("statement", "first", "expected"),
    [pytest.param(*case, id=name) for name, *case in cases()],
)
def test_each_lie_is_found(statement, first, expected):
    assert holds(statement, first) is expected


def test_the_readers_browser_agrees():
    made = list(cases())
    # As a file carries it: the browser parses JSON.
    bundles = [{"statement": told, "named": {"receipt": first}} for _, told, first, _ in made]
    found = page_scripts.run("attribution-audited.js", PROGRAM, bundles)
    judged = dict(zip([name for name, *_ in made], found, strict=True))
    assert judged == {name: expected for name, _, _, expected in made}


def test_correlation_is_told_from_three_groups_on():
    assert correlation_ppm([1, 2], [1, 2]) is None
    assert correlation_ppm([1, 2, 4, 3], [1, 3, 2, 4]) == 400_000
