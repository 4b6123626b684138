"""Database and API fields for money. An amount is an integer of wei, never a Decimal or a float."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.expressions import Combinable, register_combinable_fields
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

WEI_LIMIT = 2**256


if TYPE_CHECKING:
    IntegerField = models.Field[int, int]
else:
    IntegerField = models.Field


class WeiField(IntegerField):
    """NUMERIC(78,0) in the database, `int` in Python. Signed; |value| < 2**256."""

    description = "an integer amount of wei"

    def db_type(self, connection: Any) -> str:
        return "numeric(78,0)"

    def get_internal_type(self) -> str:
        return "WeiField"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)

    def to_python(self, value: Any) -> int | None:
        if value is None:
            return None
        if isinstance(value, bool | float):
            raise ValidationError("An amount of wei is a whole number.", code="not_an_integer")
        if isinstance(value, Decimal) and value != value.to_integral_value():
            raise ValidationError("An amount of wei is a whole number.", code="not_an_integer")
        try:
            amount = int(value)
        except (TypeError, ValueError) as error:
            raise ValidationError(
                "An amount of wei is a whole number.", code="not_an_integer"
            ) from error
        if abs(amount) >= WEI_LIMIT:
            raise ValidationError("An amount must stay below 2**256 wei.", code="overflow")
        return amount

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return value if hasattr(value, "resolve_expression") else self.to_python(value)

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj))


# Arithmetic in the database stays whole. There is none for division: it would make fractions.
for connector in (Combinable.ADD, Combinable.SUB, Combinable.MUL):
    for left, right in (
        (WeiField, WeiField),
        (WeiField, models.IntegerField),
        (models.IntegerField, WeiField),
    ):
        register_combinable_fields(left, connector, right, WeiField)


@extend_schema_field({"type": "string", "pattern": "^-?[0-9]+$", "example": "1000000000000000000"})
class WeiSerializerField(serializers.Field):
    """Decimal string in JSON: RFC 8785 numbers end at 2**53 - 1 and wei do not."""

    def to_representation(self, value: int) -> str:
        return str(value)

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, str) or not data.isascii() or not data.isdigit():
            raise serializers.ValidationError(
                "Give an amount of wei as a string of digits.", code="invalid_amount"
            )
        # Python refuses to read some thousand digits with an error of its own.
        if len(data) > 78 or int(data) >= WEI_LIMIT:
            raise serializers.ValidationError(
                "An amount must stay below 2**256 wei.", code="invalid_amount"
            )
        return int(data)


serializers.ModelSerializer.serializer_field_mapping[WeiField] = WeiSerializerField
