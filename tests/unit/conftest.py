"""What all unit tests share."""

from hypothesis import settings

# A busy machine is no failure; `--hypothesis-profile=thorough` looks longer.
settings.register_profile("unit", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile("unit")
