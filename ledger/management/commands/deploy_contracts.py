"""Deploys the contracts on the configured chain, once; called again it only looks."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ledger.chain import local
from ledger.chain.client import ChainError
from ledger.chain.deploy import (
    OPEN,
    DeploySettings,
    PoolKind,
    StakeTerms,
    deploy,
    is_deployed,
)
from ledger.chain.deployment import Deployment, read_deployment
from ledger.chain.signers import UnsafeKeyError
from ledger.models.chain import ChainLog
from ledger.services.starting_over import forget_chain
from ledger.workers import node, signer

# Seconds on the local chain, where somebody waits for it; a day and more elsewhere.
LOCAL_PERIODS = {
    "voting_delay": 3,
    "voting_period": 30,
    "late_quorum_extension": 5,
    "timelock_delay": 3,
    "distribution_delay": 0,
}
LOCAL_STAKING = StakeTerms(
    cooldown=60,
    period=600,
    appeal_window=60,
    appeal_bond=OPEN,
    pools=(("flexible", PoolKind.FLEXIBLE, 60, 600), ("locked", PoolKind.LOCKED, 300, 600)),
)
DAY = 86_400
PERIODS = {
    "voting_delay": 2 * DAY,
    "voting_period": 5 * DAY,
    "late_quorum_extension": DAY,
    "timelock_delay": 2 * DAY,
    "distribution_delay": DAY,
}


# Events whose money stands in the ledger.
BOOKED = ("Deposited", "DistributorFunded", "Funded", "Claimed")


class Command(BaseCommand):
    help = "Deploy the contracts on the chain at CHAIN_RPC_URL and write CHAIN_DEPLOYMENT."

    def add_arguments(self, parser: ArgumentParser) -> None:
        for name in PERIODS:
            option = f"--{name.replace('_', '-')}"
            parser.add_argument(option, type=int, metavar="SECONDS", help=f"{name} in seconds")
        parser.add_argument("--guardian", default="", help="address that may pause and revoke")
        parser.add_argument("--quorum-percent", type=int, default=4, help="of the supply of GOPEN")
        parser.add_argument(
            "--reset",
            action="store_true",
            help="where the local chain was started afresh, or its contracts are those of an "
            "earlier release: forget what was mirrored, deploy again",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.CHAIN_RPC_URL:
            raise CommandError("Set CHAIN_RPC_URL to the chain to deploy on.")
        try:
            self._deploy(options)
        except (ChainError, UnsafeKeyError, OSError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _deploy(self, options: dict[str, Any]) -> None:
        path = Path(settings.CHAIN_DEPLOYMENT)
        known = read_deployment(path)
        client = node()
        if client.chain_id() != settings.CHAIN_ID:
            raise CommandError(
                f"The node is on chain {client.chain_id()}, and CHAIN_ID is {settings.CHAIN_ID}."
            )
        if known is not None and not is_deployed(client, known):
            self._start_over(options)
        elif known is not None and known.missing:
            self._replace(known, path, options)
        deployment = deploy(client, signer(), self._settings(options), path=path)
        word = "Found" if known == deployment else "Deployed"
        self.stdout.write(f"{word} on chain {deployment.chain_id}, in {path}:")
        for name, address in deployment.addresses.items():
            self.stdout.write(f"  {name:<18} {address}")

    def _start_over(self, options: dict[str, Any]) -> None:
        if not settings.CHAIN_IS_LOCAL:
            raise CommandError(
                "CHAIN_DEPLOYMENT names contracts that are not on this chain. Is CHAIN_RPC_URL the "
                "right one? Remove the file only if you mean to start again."
            )
        # With nothing booked from it, a chain that was lost takes nothing along.
        if not options["reset"] and ChainLog.objects.filter(event__in=BOOKED).exists():
            raise CommandError(
                "The local chain has lost the contracts: it was started without its state file. "
                "Give it its file back, or run `manage.py deploy_contracts --reset`."
            )
        forget_chain(chain_id=settings.CHAIN_ID)

    def _replace(self, known: Deployment, path: Path, options: dict[str, Any]) -> None:
        """All contracts anew where an earlier release deployed fewer. Raises CommandError."""
        lacking = ", ".join(known.missing)
        if not settings.CHAIN_IS_LOCAL:
            raise CommandError(
                f"{path} lacks {lacking}: an earlier release deployed these contracts. What they "
                "hold stays there, and claims on it stay good. Move the file away to deploy all "
                "contracts anew, and publish what is owed from the new distributor."
            )
        if not options["reset"] and ChainLog.objects.filter(event__in=BOOKED).exists():
            raise CommandError(
                f"{path} lacks {lacking}: an earlier release deployed these contracts. Start the "
                "local chain over with `CHAIN_RESET=1 make demo`, or run "
                "`manage.py deploy_contracts --reset`."
            )
        forget_chain(chain_id=settings.CHAIN_ID)
        path.unlink()

    def _settings(self, options: dict[str, Any]) -> DeploySettings:
        periods = LOCAL_PERIODS if settings.CHAIN_IS_LOCAL else PERIODS
        chosen: dict[str, Any] = {
            name: default if options[name] is None else options[name]
            for name, default in periods.items()
        }
        guardian = options["guardian"]
        if not guardian and not settings.CHAIN_IS_LOCAL:
            raise CommandError("Name the guardian's address with --guardian.")
        return DeploySettings(
            publisher=signer().address,
            guardian=guardian or local.DEV_ADDRESSES[1],
            quorum_percent=options["quorum_percent"],
            staking=LOCAL_STAKING if settings.CHAIN_IS_LOCAL else StakeTerms(),
            **chosen,
        )
