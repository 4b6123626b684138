"""The first part of the sample, which is there when the demo's address is printed.

People with logins, and Datanets with records in every state: accepted, waiting for a reviewer,
rejected with a reason, waiting for staff. Everything goes through the services that the browser
uses. What exists is left as it is, so a second start changes nothing.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction

from accounts.models import User
from accounts.services.wallets import link_wallet
from config.sample.docstrings import STANDARD_LIBRARY, Pair, installed, standard_library
from config.sample.people import (
    BUILDER,
    CONTRIBUTOR,
    LOGINS,
    OWNER,
    PASSWORD,
    REVIEWER,
    STAFF,
    Login,
)
from datanets.models import Datanet, Reason, Record, Role
from datanets.services import datanets as datanet_services
from datanets.services import imports, reviews
from ledger.chain.local import DEV_ADDRESSES
from modelfactory.services.bases import register_starter

PYTHON_ANSWERS = "Python answers"
PAIRS_OF_A_PACKAGE = 24
# The named contributor brings these packages; the owner brings the others by a bulk import.
CONTRIBUTORS_OWN = ("email", "json", "pathlib")


@dataclass(frozen=True)
class Sample:
    """One Datanet of the sample and what happens to its records.

    Of its records the last `left` wait for a reviewer, and the `rejected` shortest of the others
    are rejected.
    """

    name: str
    summary: str
    description: str
    rules: str
    tags: Sequence[str]
    licence: str
    pairs: Callable[[], list[Pair]]
    left: int = 0
    rejected: int = 0
    approved: bool = True


def seed_foundation(*, at: datetime) -> list[str]:
    """Makes what is missing; returns a line for each thing that it made."""
    made = [f"login {login.email}" for login in LOGINS if _seed_person(login, at)]
    people = {login: User.objects.get(email__iexact=login.email) for login in LOGINS}
    register_starter(at=at)
    for sample in SAMPLES:
        if not Datanet.objects.filter(name=sample.name, owner=people[OWNER]).exists():
            with transaction.atomic():
                _seed_datanet(sample, people, at)
            made.append(f"Datanet {sample.name}")
    return made


def python_answers() -> Datanet | None:
    """The Datanet of which the rest of the sample is made; None before it is seeded."""
    return Datanet.objects.filter(name=PYTHON_ANSWERS, owner__email=OWNER.email).first()


def make_person(login: Login, at: datetime) -> User:
    """The person behind a login, who cannot sign in before the demo gives a password."""
    return User.objects.create_user(
        login.email,
        None,
        handle=User.objects.free_handle(login.handle),
        display_name=login.name,
        is_staff=login.is_staff,
        date_joined=at,
    )


def _seed_person(login: Login, at: datetime) -> bool:
    """Make the login, or complete the person that a tour has made without a password."""
    user = User.objects.filter(email__iexact=login.email).first()
    if user is not None and user.has_usable_password():
        return False
    with transaction.atomic():
        if user is None:
            user = make_person(login, at)
        user.set_password(PASSWORD)
        user.save(update_fields=["password"])
        EmailAddress.objects.get_or_create(
            user=user, email=login.email, defaults={"verified": True, "primary": True}
        )
        address = DEV_ADDRESSES[login.wallet]
        if settings.CHAIN_ENABLED and settings.CHAIN_IS_LOCAL and not user.wallets.exists():
            # Anvil's accounts are unlocked, so each person can sign with one in the demo.
            link_wallet(user=user, address=address, acting_user=user, at=at)
    return True


def _seed_datanet(sample: Sample, people: dict[Login, User], at: datetime) -> None:
    owner = people[OWNER]
    datanet = datanet_services.create_datanet(
        name=sample.name,
        summary=sample.summary,
        description=sample.description,
        rules=sample.rules,
        tags=sample.tags,
        licence=sample.licence,
        acting_user=owner,
        at=at,
    )
    for login, role in (
        (CONTRIBUTOR, Role.CONTRIBUTOR),
        (REVIEWER, Role.REVIEWER),
        (BUILDER, Role.BUILDER),
    ):
        datanet_services.add_member(
            datanet=datanet, user=people[login], role=role, acting_user=owner, at=at
        )
    pairs = sample.pairs()
    own = [pair for pair in pairs if pair.contributor in CONTRIBUTORS_OWN]
    others = [pair for pair in pairs if pair.contributor not in CONTRIBUTORS_OWN]
    _import(datanet, people[CONTRIBUTOR], own, "my-packages.jsonl", at)
    _import(datanet, owner, others, "packages.jsonl", at, contributor_column="package")
    _review(datanet, people[REVIEWER], sample, at)
    datanet_services.request_publication(datanet=datanet, acting_user=owner, at=at)
    if sample.approved:
        datanet.refresh_from_db()
        datanet_services.approve_publication(datanet=datanet, acting_user=people[STAFF], at=at)


def _import(
    datanet: Datanet,
    user: User,
    pairs: Sequence[Pair],
    name: str,
    at: datetime,
    contributor_column: str = "",
) -> None:
    if not pairs:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with path.open("w", encoding="utf-8") as stream:
            for pair in pairs:
                row = {"question": pair.question, "answer": pair.answer}
                if contributor_column:
                    row[contributor_column] = pair.contributor
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        imports.import_file(
            datanet=datanet,
            path=path,
            acting_user=user,
            at=at,
            contributor_column=contributor_column,
        )


def _review(datanet: Datanet, reviewer: User, sample: Sample, at: datetime) -> None:
    waiting = list(Record.objects.filter(datanet=datanet).order_by("id"))
    decided = waiting[: len(waiting) - sample.left]
    shortest = sorted(decided, key=lambda record: len(str(record.payload)))[: sample.rejected]
    rejected = {record.pk for record in shortest}
    accepted = [record.pk for record in decided if record.pk not in rejected]
    reviews.accept_records(datanet=datanet, records=accepted, acting_user=reviewer, at=at)
    if rejected:
        reviews.reject_records(
            datanet=datanet,
            records=sorted(rejected),
            reason=Reason.LOW_QUALITY,
            note="The answer is too short to help anybody.",
            acting_user=reviewer,
            at=at,
        )


def _from_standard_library() -> list[Pair]:
    return [
        pair
        for package in STANDARD_LIBRARY
        if package not in TESTING
        for pair in standard_library(package, PAIRS_OF_A_PACKAGE)
    ]


def _from_model_tools() -> list[Pair]:
    packages = ("accelerate", "huggingface_hub", "peft", "safetensors", "tokenizers")
    return [pair for package in packages for pair in installed(package, PAIRS_OF_A_PACKAGE)]


def _from_testing() -> list[Pair]:
    return [pair for package in TESTING for pair in standard_library(package, PAIRS_OF_A_PACKAGE)]


TESTING = ("unittest", "doctest")
RULES = """\
- One question about one function, class or module; the answer says what it is **for**.
- The answer stands alone: no "see above", no bare signature.
- Only text whose licence allows it. The package is the contributor.
"""
SAMPLES = (
    Sample(
        name=PYTHON_ANSWERS,
        summary="What the functions, classes and modules of Python's standard library are for.",
        description=(
            "Questions and answers made from the docstrings of the standard library of the Python "
            "that runs this product. Each package is one contributor.\n\n"
            "Made for small models that sit in an editor and answer in one sentence."
        ),
        rules=RULES,
        tags=("python", "documentation", "code"),
        licence="PSF-2.0",
        pairs=_from_standard_library,
        left=12,
        rejected=5,
    ),
    Sample(
        name="Model tool answers",
        summary="What the parts of libraries for training and serving models do.",
        description=(
            "Questions and answers from the docstrings of Apache-licensed libraries that are "
            "installed here: accelerate, huggingface_hub, peft and their relatives."
        ),
        rules=RULES,
        tags=("machine-learning", "documentation", "code"),
        licence="Apache-2.0",
        pairs=_from_model_tools,
        left=40,
        rejected=3,
    ),
    Sample(
        name="Testing answers",
        summary="How to test in Python with what comes with it.",
        description="Questions and answers from the docstrings of `unittest` and `doctest`.",
        rules=RULES,
        tags=("python", "testing"),
        licence="PSF-2.0",
        pairs=_from_testing,
        left=10,
        approved=False,
    ),
)
