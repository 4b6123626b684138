"""The named people of the demo: one for each role."""

from dataclasses import dataclass

# Known to everybody: the demo listens on the loopback interface only.
PASSWORD = "open-ledger-demo"


@dataclass(frozen=True)
class Login:
    """A person to log in as. `wallet` is an account number of the local chain's mnemonic."""

    handle: str
    name: str
    what: str
    wallet: int
    is_staff: bool = False

    @property
    def email(self) -> str:
        return f"{self.handle}@openledger.test"


OWNER = Login("owner", "Olga Owner", "runs the sample Datanets, publishes versions", wallet=4)
CONTRIBUTOR = Login("contributor", "Carla Contributor", "gave records, earns and claims", wallet=5)
REVIEWER = Login("reviewer", "Raj Reviewer", "accepts or rejects records", wallet=6)
BUILDER = Login("builder", "Bea Builder", "trains, deploys and asks models", wallet=7)
STAFF = Login("staff", "Stan Staff", "approves Datanets, handles reports", wallet=8, is_staff=True)
HOLDER = Login("holder", "Hana Holder", "holds GOPEN and votes", wallet=9)

LOGINS = (OWNER, CONTRIBUTOR, REVIEWER, BUILDER, STAFF, HOLDER)
