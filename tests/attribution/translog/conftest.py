"""Property tests of the log are not timed: a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("translog", deadline=None)
settings.load_profile("translog")
