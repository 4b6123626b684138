"""Resumable uploads: a byte counts once its part is stored and the offset moved with it.

Each chunk becomes a part of its own in the object store, then one statement moves the offset if
it is still where the chunk began. Two chunks for one place cannot mix: the second finds the
offset moved and is refused, and its part is thrown away.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import QuerySet, Sum

from accounts import audit
from accounts.ids import uuid7
from accounts.models import User
from datanets import access
from datanets.errors import DatanetError
from datanets.ingest.faults import FileFault
from datanets.ingest.formats import require_ending
from datanets.models import Contribution, Datanet, Upload, UploadPart, UploadState
from datanets.services import contributions
from datanets.services.parts import forget_parts

LIFETIME = timedelta(hours=24)
CHUNK_BYTES = 2_000_000
# A client may send larger chunks than ours does; each is held in memory once.
MAX_CHUNK_BYTES = 8_000_000
COUNTED = (UploadState.OPEN, UploadState.COMPLETE)


@dataclass(frozen=True)
class Quota:
    """What one person may still upload today (UTC) to one Datanet."""

    file_bytes: int
    user_bytes_left: int
    user_files_left: int
    datanet_bytes_left: int

    @property
    def largest_file(self) -> int:
        """Bytes of the largest file that would be taken now."""
        if not self.user_files_left:
            return 0
        return max(0, min(self.file_bytes, self.user_bytes_left, self.datanet_bytes_left))


def quota(*, user: User, datanet: Datanet, at: datetime) -> Quota:
    """What is left of today's limits."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    today = Upload.objects.filter(created_at__gte=midnight, state__in=COUNTED)
    mine = today.filter(user=user)
    return Quota(
        file_bytes=settings.UPLOAD_FILE_BYTES,
        user_bytes_left=max(0, settings.UPLOAD_USER_DAY_BYTES - _bytes(mine)),
        user_files_left=max(0, settings.UPLOAD_USER_DAY_FILES - mine.count()),
        datanet_bytes_left=max(
            0, settings.UPLOAD_DATANET_DAY_BYTES - _bytes(today.filter(datanet=datanet))
        ),
    )


def start_upload(
    *, datanet: Datanet, name: str, size: int, acting_user: User, at: datetime
) -> Upload:
    """Open an upload of `size` bytes.

    Raises DatanetError: FORMAT, EMPTY, FILE_TOO_LARGE, QUOTA; PermissionDenied.
    """
    access.require_contributor(acting_user, datanet)
    name = _require_name(name)
    if size <= 0:
        raise DatanetError("EMPTY", "The file is empty. Choose a file with rows.", status=400)
    with transaction.atomic():
        # The Datanet's and the person's rows serialise what counts against their limits.
        User.objects.select_for_update().get(pk=acting_user.pk)
        Datanet.objects.select_for_update().get(pk=datanet.pk)
        _require_quota(quota(user=acting_user, datanet=datanet, at=at), size)
        upload = Upload.objects.create(
            user=acting_user,
            datanet=datanet,
            name=name,
            size=size,
            expires_at=at + LIFETIME,
            created_at=at,
        )
        audit.record(
            actor=acting_user,
            verb="upload.started",
            target=upload,
            data={"datanet": str(datanet.pk), "name": name, "size": size},
            at=at,
        )
    return upload


def append_chunk(*, upload: Upload, offset: int, data: bytes, at: datetime) -> Upload:
    """Store bytes that begin at `offset`; with the last byte a contribution is made.

    Raises DatanetError: GONE (410), OFFSET (409), CHUNK (413).
    """
    if not upload.is_open(at):
        raise DatanetError("GONE", "This upload is over. Start it again.", status=410)
    if offset != upload.offset:
        raise DatanetError("OFFSET", f"The next byte is {upload.offset}.", status=409)
    if len(data) > MAX_CHUNK_BYTES or offset + len(data) > upload.size:
        raise DatanetError("CHUNK", "The chunk is larger than what is left.", status=413)
    if data:
        _store_part(upload, offset, data, at)
        upload.refresh_from_db()
    return upload


def _store_part(upload: Upload, offset: int, data: bytes, at: datetime) -> None:
    path = default_storage.save(f"uploads/{upload.pk}/{offset:015d}-{uuid7()}", ContentFile(data))
    end = offset + len(data)
    try:
        with transaction.atomic():
            moved = Upload.objects.filter(
                pk=upload.pk, offset=offset, state=UploadState.OPEN
            ).update(offset=end, expires_at=at + LIFETIME)
            if not moved:
                raise DatanetError("OFFSET", "Another request wrote this part.", status=409)
            UploadPart.objects.create(upload=upload, offset=offset, size=len(data), path=path)
            if end == upload.size:
                _finish(upload, at)
    except BaseException:
        default_storage.delete(path)
        raise


def _finish(upload: Upload, at: datetime) -> None:
    Upload.objects.filter(pk=upload.pk).update(state=UploadState.COMPLETE)
    contributions.start_contribution(
        datanet=upload.datanet,
        name=upload.name,
        size=upload.size,
        upload=upload,
        acting_user=upload.user,
        at=at,
    )


def cancel_upload(*, upload: Upload, acting_user: User, at: datetime) -> None:
    """End an open upload and throw its parts away. Raises DatanetError GONE."""
    with transaction.atomic():
        ended = Upload.objects.filter(pk=upload.pk, state=UploadState.OPEN).update(
            state=UploadState.CANCELLED
        )
        if not ended:
            raise DatanetError("GONE", "This upload is over already.", status=410)
        audit.record(actor=acting_user, verb="upload.cancelled", target=upload, at=at)
        forget_parts(upload)


def expire_uploads(*, at: datetime) -> int:
    """Throw away what nobody continued within a day; return how many uploads."""
    count = 0
    for upload in Upload.objects.filter(state=UploadState.OPEN, expires_at__lt=at)[:500]:
        with transaction.atomic():
            ended = Upload.objects.filter(
                pk=upload.pk, state=UploadState.OPEN, expires_at__lt=at
            ).update(state=UploadState.EXPIRED)
            if ended:
                forget_parts(upload)
                count += 1
    return count


def contribution_of(upload: Upload) -> Contribution | None:
    """The contribution that a complete upload became."""
    return Contribution.objects.filter(upload=upload).first()


def _bytes(uploads: QuerySet[Upload]) -> int:
    return uploads.aggregate(total=Sum("size"))["total"] or 0


def _require_name(name: str) -> str:
    # A name is only ever shown; what is kept of a path is its last part.
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(char for char in name if char.isprintable()).strip()[-200:]
    try:
        require_ending(name)
    except FileFault as fault:
        raise DatanetError(fault.code, fault.message, status=400) from None
    return name


def _require_quota(left: Quota, size: int) -> None:
    if size > left.file_bytes:
        raise DatanetError(
            "FILE_TOO_LARGE",
            f"The file has {size:,} bytes; {left.file_bytes:,} are allowed. Split it.",
            status=413,
        )
    if not left.user_files_left:
        raise DatanetError(
            "QUOTA", "You have uploaded as many files as a day allows. Go on tomorrow.", status=429
        )
    if size > left.largest_file:
        raise DatanetError(
            "QUOTA",
            f"The file has {size:,} bytes; {left.largest_file:,} are left of today's limit. "
            "Upload a smaller part, or go on tomorrow.",
            status=429,
        )
