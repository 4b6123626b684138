"""Wei are exact whole numbers on the way to people and to the database."""

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from accounts.fields import WeiField, WeiSerializerField
from accounts.templatetags.money import open_amount, open_short

wei = st.integers(min_value=-(2**256) + 1, max_value=2**256 - 1)


@given(wei)
def test_the_shown_amount_is_exact(amount: int) -> None:
    shown = open_amount(amount).replace(",", "")
    sign = -1 if shown.startswith("-") else 1
    whole, _, part = shown.lstrip("-").partition(".")
    assert sign * (int(whole) * 10**18 + int(part.ljust(18, "0") or 0)) == amount


@given(wei)
def test_the_field_keeps_every_wei(amount: int) -> None:
    assert WeiField().to_python(amount) == amount
    assert WeiField().to_python(str(amount)) == amount


@pytest.mark.parametrize("value", [1.0, True, "1.5", Decimal("0.5"), "", "x", 2**256, -(2**256)])
def test_the_field_refuses_what_is_no_amount(value: object) -> None:
    with pytest.raises(ValidationError):
        WeiField().to_python(value)


@pytest.mark.parametrize("value", [1, 1.5, "-1", "0x10", "1e3", "", None, "١"])
def test_the_api_takes_only_strings_of_digits(value: object) -> None:
    from rest_framework.exceptions import ValidationError as Refused

    with pytest.raises(Refused):
        WeiSerializerField().to_internal_value(value)


@pytest.mark.parametrize(
    ("amount", "short"),
    [
        (0, "0"),
        (10**18, "1"),
        (1_500_123_456_789_000_000, "1.5001"),
        (123_456_789, "0.0000000001234"),
        (-(10**18) - 1, "-1"),
        (1, "0.000000000000000001"),
    ],
)
def test_the_short_form_keeps_the_size(amount: int, short: str) -> None:
    assert open_short(amount) == short
