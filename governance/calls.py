"""What a holder's wallet is asked to sign: calldata encoded here, and what it does in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from governance import selectors
from governance.models import Proposal, Vote
from governance.motions import Motion
from ledger.onchain import wallet_call
from ledger.words import open_text


@dataclass(frozen=True)
class Call:
    """One transaction for a browser wallet, and the lines that are shown before it is signed."""

    label: str
    transaction: dict[str, str]
    facts: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "call": self.transaction,
            "facts": [list(fact) for fact in self.facts],
        }


def wrap(amount: int, delegate: str) -> Call:
    """OPEN into GOPEN; with `delegate` the votes are given to that address at once."""
    facts = [("Contract", "GovernanceToken"), ("You give", f"{open_text(amount)} OPEN")]
    facts.append(("You get", f"{open_text(amount)} GOPEN"))
    if not delegate:
        transaction = wallet_call("GovernanceToken", "deposit", value=amount)
        return Call("Wrap", transaction, (*facts, ("Calls", "deposit()")))
    transaction = wallet_call("GovernanceToken", "depositAndDelegate", delegate, value=amount)
    facts += [("Your votes go to", delegate), ("Calls", "depositAndDelegate(address)")]
    return Call("Wrap and delegate", transaction, tuple(facts))


def unwrap(amount: int) -> Call:
    """GOPEN back into OPEN."""
    return Call(
        "Unwrap",
        wallet_call("GovernanceToken", "withdraw", amount),
        (
            ("Contract", "GovernanceToken"),
            ("You give", f"{open_text(amount)} GOPEN"),
            ("You get", f"{open_text(amount)} OPEN"),
            ("Calls", "withdraw(uint256)"),
        ),
    )


def delegate(to: str) -> Call:
    """Let an address vote with all GOPEN of the wallet."""
    return Call(
        "Delegate",
        wallet_call("GovernanceToken", "delegate", to),
        (
            ("Contract", "GovernanceToken"),
            ("Your votes go to", to),
            ("Calls", "delegate(address)"),
        ),
    )


def vote(proposal: Proposal, support: int, reason: str) -> Call:
    """Say for, against or abstain."""
    name = "castVoteWithReason" if reason else "castVote"
    arguments: tuple[Any, ...] = (int(proposal.number), support, *([reason] if reason else []))
    return Call(
        f"Vote {Vote.Support(support).label.lower()}",
        wallet_call("OpenGovernor", name, *arguments),
        (
            ("Contract", "OpenGovernor"),
            ("Proposal", proposal.title),
            ("Your vote", Vote.Support(support).label),
            *((("Your reason", reason),) if reason else ()),
            ("Calls", f"{name}({'uint256,uint8,string' if reason else 'uint256,uint8'})"),
        ),
    )


def propose(motion: Motion, facts: tuple[tuple[str, str], ...]) -> Call:
    """Put a motion to the holders."""
    return Call(
        "Propose",
        wallet_call("OpenGovernor", "propose", *motion.propose_arguments),
        (
            ("Contract", "OpenGovernor"),
            *facts,
            ("Calls", "propose(address[],uint256[],bytes[],string)"),
        ),
    )


def move_on(proposal: Proposal, function: str) -> Call:
    """`queue`, `execute` or `cancel` a proposal. Anyone may do the first two."""
    motion = selectors.motion_of(proposal)
    return Call(
        {"queue": "Queue", "execute": "Execute", "cancel": "Take back"}[function],
        wallet_call("OpenGovernor", function, *motion.later_arguments),
        (
            ("Contract", "OpenGovernor"),
            ("Proposal", proposal.title),
            ("Calls", f"{function}(address[],uint256[],bytes[],bytes32)"),
        ),
    )
