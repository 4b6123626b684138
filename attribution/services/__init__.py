from attribution.services.receipts import request_attribution

__all__ = ["request_attribution"]
