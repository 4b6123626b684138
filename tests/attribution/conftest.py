import pytest


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory):
    pytest.importorskip("torch")
    from tests.attribution.world import tiny_base_and_adapter

    return tiny_base_and_adapter(tmp_path_factory.mktemp("attribution"))


@pytest.fixture
def own_folders(settings, tmp_path):
    """Nothing of a test lands in the developer's data."""
    settings.CHAIN_ENABLED = False
    settings.DATA_DIR = tmp_path
    settings.LOG_KEY_PATH = tmp_path / "keys" / "log.ed25519"
    settings.STORAGES = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "blobs")},
        }
    }


@pytest.fixture
def world(db, own_folders, tiny_folders):
    from attribution import scorers
    from tests.attribution.world import World

    scorers.clear()
    return World(tiny_folders)


@pytest.fixture
def indexed(world):
    """The same, with the index of its model built."""
    assert world.build_index().state == "READY"
    return world
