from tests.chain_fixtures import chain, chain_settings, deployed_chain, late_finality, worker

__all__ = ["chain", "chain_settings", "deployed_chain", "late_finality", "worker"]
