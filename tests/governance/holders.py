"""What holders do on the test's chain, and the mirror after it."""

from __future__ import annotations

from django.utils import timezone

from governance.models import Proposal
from governance.motions import Motion, split_motion
from governance.services import projection
from tests.chain_fixtures import ALICE, TIMELOCK_DELAY, VOTING_DELAY, VOTING_PERIOD, Worker

NEW_SPLIT = {"platform": 500, "model_owner": 2500, "stakers": 2000, "contributors": 5000}
TEXT = "# Pay model owners more\n\nThey carry the GPUs."


class Holders:
    """Holders act, the worker mirrors, governance follows."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.chain = worker.chain
        self.mirror()

    def mirror(self) -> None:
        """Let what happened become final, and take it in."""
        self.chain.mine(3)
        self.worker.index()
        while projection.mirror(at=timezone.now()):
            pass

    def wrap(self, holder: str, amount: int, delegate: str = "") -> None:
        self.chain.send(
            holder, "GovernanceToken", "depositAndDelegate", delegate or holder, value=amount
        )
        self.chain.warp(1)

    def motion(self, split: dict[str, int] = NEW_SPLIT, text: str = TEXT) -> Motion:
        return split_motion(self.chain.deployment, split, text)

    def propose(self, motion: Motion | None = None, holder: str = ALICE) -> Proposal:
        motion = motion or self.motion()
        self.chain.send(holder, "OpenGovernor", "propose", *motion.propose_arguments)
        self.mirror()
        return Proposal.objects.get(description=motion.description)

    def vote(self, holder: str, proposal: Proposal, support: int, reason: str = "") -> None:
        self.chain.send(
            holder, "OpenGovernor", "castVoteWithReason", int(proposal.number), support, reason
        )

    def open_vote(self) -> None:
        self.chain.warp(VOTING_DELAY + 1)

    def close_vote(self) -> None:
        self.chain.warp(VOTING_PERIOD + 1)

    def later(self, function: str, holder: str = ALICE, motion: Motion | None = None) -> None:
        motion = motion or self.motion()
        self.chain.send(holder, "OpenGovernor", function, *motion.later_arguments)

    def pass_timelock(self) -> None:
        self.chain.warp(TIMELOCK_DELAY + 1)
