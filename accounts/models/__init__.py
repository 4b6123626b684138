from accounts.models.base import Entity, WorkItem
from accounts.models.blobs import Blob
from accounts.models.challenge import SignInChallenge
from accounts.models.keys import ApiKey, KeySpending, Scope
from accounts.models.messages import AuditEvent, Notification, OutboxMessage
from accounts.models.requests import IdempotentRequest
from accounts.models.users import User, Wallet
from accounts.models.workers import WorkerHeartbeat

__all__ = [
    "ApiKey",
    "AuditEvent",
    "Blob",
    "Entity",
    "IdempotentRequest",
    "KeySpending",
    "Notification",
    "OutboxMessage",
    "Scope",
    "SignInChallenge",
    "User",
    "Wallet",
    "WorkItem",
    "WorkerHeartbeat",
]
