"""Which learners with which options stand side by side."""

from collections.abc import Iterable

from judging import Variant

from mil.instance import PUBLISHED

# slidebag's default, and with one part changed at a time: label -> what is set
ABLATION: dict[str, dict[str, str]] = {
    "slidebag": {},
    "published": PUBLISHED,
    "linear witnesses": {"witnesses": "linear"},
    "hidden witnesses": {"witnesses": "hidden"},
    "witnesses of context": {"witnesses": "context"},
    "tiles by witnesses": {"witness_weight": "1"},
    "tiles by the net": {"witness_weight": "0"},
    "no contrast": {"contrast_weight": "0"},
    "no bag term": {"bag_weight": "0"},
    "no views": {"view_strength": "0", "view_dropout": "0"},
    "no refining": {"refine": "0"},
    "refining without anchor": {"anchor": "0"},
    "one prototype a class": {"prototypes": "1"},
    "one member": {"members": "1"},
}


def parse_variant(text: str) -> Variant:
    """Return the variant that `learner` or `learner:option=value,option=value` names."""
    name, _, rest = text.partition(":")
    return Variant(text, name, pairs(rest.split(",") if rest else []))


def ablation() -> list[Variant]:
    return [Variant(label, "slidebag", settings) for label, settings in ABLATION.items()]


def with_settings(variants: Iterable[Variant], settings: Iterable[str]) -> list[Variant]:
    """Set `learner.option=value` for all variants of that learner that do not set it themselves."""
    told = [(*key.partition(".")[::2], value) for key, value in pairs(settings).items()]
    return [
        Variant(
            each.label,
            each.learner,
            {option: value for name, option, value in told if name == each.learner} | each.settings,
        )
        for each in variants
    ]


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """Return options as text by name, of `option=value`."""
    parts = [text.partition("=") for text in texts]
    for key, equals, _ in parts:
        if not equals:
            raise SystemExit(f"{key!r} has no value: write option=value")
    return {key.strip().replace("-", "_"): value.strip() for key, _, value in parts}
