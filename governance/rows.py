"""The public page of all parameters: value, unit, who can change it, when it last changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from governance.models import ParameterVersion, Proposal, SettingChange, moment
from governance.registry import GOVERNED, Governed
from governance.selectors import Parameters, current_parameters
from governance.words import SETTING_WORDS, label_of, show_governed, show_setting

HOLDERS = "The holders of GOPEN, by a proposal"
NOBODY = "Nobody: this instance has no chain"


@dataclass(frozen=True)
class ParameterRow:
    """One governed value: what it is, who can change it, when it last did."""

    key: str
    label: str
    shown: str
    changed_by: str
    changed_at: datetime | None
    version: int | None
    proposal: Proposal | None
    tx_hash: str
    explains: str = ""
    bounds: str = ""
    is_default: bool = False
    can_be_proposed: bool = False

    @property
    def field(self) -> str:
        """Its field on the page where a change is proposed."""
        return self.key.replace(".", "__")


def parameter_rows() -> list[ParameterRow]:
    """Every governed value in force, with its last change."""
    return [*_value_rows(), *_setting_rows()]


def _value_rows() -> list[ParameterRow]:
    """The split, the declared numbers, and numbers on the chain that nothing here reads."""
    parameters = current_parameters()
    versions: list[ParameterVersion] = []
    if settings.CHAIN_ENABLED:
        in_force = ParameterVersion.objects.filter(state=ParameterVersion.State.IN_FORCE)
        versions = list(in_force.select_related("proposal"))
    last: dict[str, ParameterVersion] = {}
    for version in versions:
        for change in version.changed:
            last.setdefault(change["key"], version)
    split = list(ParameterVersion.SPLIT_KEYS.values())
    unknown = sorted(parameters.values.keys() - GOVERNED.keys() - set(split))
    return [_value_row(key, parameters, last.get(key)) for key in [*split, *GOVERNED, *unknown]]


def _value_row(key: str, parameters: Parameters, last: ParameterVersion | None) -> ParameterRow:
    declared = GOVERNED.get(key)
    value = parameters.governed(key) if declared else parameters.values[key]
    return ParameterRow(
        key=key,
        label=label_of(key),
        shown=show_setting(key, value),
        changed_by=HOLDERS if settings.CHAIN_ENABLED else NOBODY,
        changed_at=moment(last.changed_at) if last else None,
        version=last.version if last else None,
        proposal=last.proposal if last else None,
        tx_hash=last.tx_hash if last else "",
        explains=declared.explains if declared else "",
        bounds=_bounds(declared) if declared else "",
        is_default=parameters.is_default(key),
        can_be_proposed=declared is not None and settings.CHAIN_ENABLED,
    )


def _bounds(declared: Governed) -> str:
    low, high = show_governed(declared, declared.low), show_governed(declared, declared.high)
    return f"{low} to {high}"


def _setting_rows() -> list[ParameterRow]:
    if not settings.CHAIN_ENABLED:
        return []
    newest: dict[str, SettingChange] = {}
    for change in SettingChange.objects.select_related("proposal"):
        newest.setdefault(change.key, change)
    return [
        ParameterRow(
            key=key,
            label=SETTING_WORDS[key],
            shown=show_setting(key, int(newest[key].value)),
            changed_by=HOLDERS,
            changed_at=moment(newest[key].changed_at),
            version=None,
            proposal=newest[key].proposal,
            tx_hash=newest[key].tx_hash,
        )
        for key in SETTING_WORDS
        if key in newest
    ]
