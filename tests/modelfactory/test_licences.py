"""Which licences go together, and what comes of it."""

from types import SimpleNamespace

import pytest

from modelfactory.licences import check


def verdict(*licences, base="apache-2.0"):
    return check([SimpleNamespace(licence=licence) for licence in licences], base)


def test_permissive_data_takes_the_licence_of_the_base():
    found = verdict("CC-BY-4.0", "MIT")
    assert found.allowed
    assert (found.licence, found.commercial) == ("Apache-2.0", True)


def test_share_alike_data_passes_its_licence_on():
    assert verdict("CC-BY-SA-4.0", "CC0-1.0").licence == "CC-BY-SA-4.0"


def test_non_commercial_data_makes_a_model_without_a_price():
    found = verdict("CC-BY-NC-4.0")
    assert found.allowed
    assert not found.commercial


@pytest.mark.parametrize(
    "licences",
    [("CC-BY-SA-4.0", "ODbL-1.0"), ("CC-BY-SA-4.0", "CC-BY-NC-4.0"), ("All rights reserved",)],
)
def test_it_refuses_what_cannot_be_combined(licences):
    found = verdict(*licences)
    assert not found.allowed
    assert found.refusals


def test_a_base_without_a_licence_is_warned_of():
    assert verdict("MIT", base="").warnings
