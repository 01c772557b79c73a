"""What `pretrain` says at its end: a name that other verbs take as it stands there."""

from pathlib import Path

import pytest

from features import Pretrained, is_folder_name
from mil import show


@pytest.mark.parametrize(
    ("given", "told"),
    [("mine", "./mine"), ("./mine", "./mine"), ("embedded", "./embedded"), ("a/mine", "a/mine")],
)
def test_the_name_to_use_it_by_is_a_path(tmp_path, monkeypatch, capsys, given, told):
    monkeypatch.chdir(tmp_path)
    Path(given).mkdir(parents=True)
    (Path(given) / "card.json").touch()
    show.pretrained(Pretrained(Path(given), 8, 0, {}, {}))
    assert capsys.readouterr().out.endswith(f"use it with --encoder {told}\n")
    assert is_folder_name(told)


def test_a_whole_path_stays_as_it_is(tmp_path, capsys):
    show.pretrained(Pretrained(tmp_path / "mine", 8, 0, {}, {}))
    assert capsys.readouterr().out.endswith(f"use it with --encoder {tmp_path / 'mine'}\n")
