"""What holds for all tests."""

from hypothesis import settings

# A shared machine stands still at times: how long one example takes says nothing. The suite's own timeout remains.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
