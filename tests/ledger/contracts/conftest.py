from tests.chain_fixtures import chain, chain_settings, deployed_chain, worker

__all__ = ["chain", "chain_settings", "deployed_chain", "worker"]
