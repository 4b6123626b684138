"""The parts of an upload in the object store: joined to one blob, or thrown away."""

import tempfile

from django.core.files.storage import default_storage
from django.db import transaction

from accounts.blobs import put_file
from accounts.models import Blob
from datanets.models import Upload


def join_parts(upload: Upload, media_type: str) -> Blob:
    """The upload's parts as one blob. Raises FileNotFoundError where the store lost a part."""
    with tempfile.NamedTemporaryFile() as whole:
        for part in upload.parts.order_by("offset"):
            with default_storage.open(part.path, "rb") as stream:
                while piece := stream.read(1 << 20):
                    whole.write(piece)
        whole.flush()
        return put_file(whole.name, media_type)


def forget_parts(upload: Upload) -> None:
    """Delete an upload's parts; their files go once the deletion is committed."""
    paths = list(upload.parts.values_list("path", flat=True))
    upload.parts.all().delete()

    def delete_files() -> None:
        for path in paths:
            default_storage.delete(path)

    transaction.on_commit(delete_files)
