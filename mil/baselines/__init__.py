"""Bag-level learners of the literature, whose networks are those of torchmil (the extra `baselines`)."""

from importlib.util import find_spec

from tiling import ConfigError

if find_spec("torchmil") is None:
    raise ConfigError(
        "this learner needs torchmil, which is not installed", hint='pip install "slidebag[baselines]"'
    )
