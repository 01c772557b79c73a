import pytest

from tiling import ConfigError
from tiling.legend import Legend, length_text, probability_text, round_length_um


@pytest.mark.parametrize(
    ("longest", "found"), [(1, 1), (1.99, 1), (2, 2), (4.9, 2), (5, 5), (99, 50), (1000, 1000), (0.03, 0.02)]
)
def test_lengths_are_round_and_fit(longest, found):
    assert round_length_um(longest) == pytest.approx(found)


def test_lengths_are_told_in_the_unit_of_their_size():
    assert length_text(2000) == "2 mm"
    assert length_text(200) in ("200 µm", "0.2 mm")  # without a font that has µ


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(ConfigError, match="threshold"):
        Legend(class_name="tumour", threshold=threshold)


@pytest.mark.parametrize(
    ("told", "digits", "text"),
    [(0.5, 2, "= 0.50"), (0.0049, 2, "< 0.01"), (0.0051, 2, "= 0.01"), (0.995, 2, "> 0.99"),
     (0.9987, 3, "= 0.999"), (1.0, 3, "> 0.999"), (0.0, 3, "< 0.001")],
)  # fmt: skip
def test_no_probability_is_certain(told, digits, text):
    assert probability_text(told, digits) == text
