from tests.chain_fixtures import chain, deployed_chain

__all__ = ["chain", "deployed_chain"]
