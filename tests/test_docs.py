"""The documentation is true: its Python runs, its commands and options exist, its links lead somewhere."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from features import ENCODERS
from mil import LEARNERS
from mil.cli import app
from mil.instance import InstanceConfig
from tiling import write_phantom_cohort

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(line, text) of the page's blocks in a language."""
    text = page.read_text(encoding="utf-8")
    return [(text[: m.start(2)].count("\n"), m[2]) for m in BLOCK.finditer(text) if m[1] == language]


def pages_with(language: str) -> list:
    return [pytest.param(page, id=name_of(page)) for page in PAGES if blocks(page, language)]


def shell_commands() -> list[tuple[str, str]]:
    """(page, line) of each slidebag command in a shell block."""
    lines = [
        (name_of(page), line)
        for page in PAGES
        for _, text in blocks(page, "bash")
        for line in text.splitlines()
    ]
    return [(page, line) for page, line in lines if line.startswith("slidebag ")]


@pytest.fixture(scope="module")
def labelled_cohort(tmp_path_factory) -> Path:
    """What the pages' code finds beside it: slides/, slides.csv, truth/."""
    folder = tmp_path_factory.mktemp("documented")
    write_phantom_cohort(folder, 12, seed=1, size_px=(1200, 1000))
    return folder


@pytest.fixture
def beside_slides(labelled_cohort, tmp_path, monkeypatch) -> None:
    shutil.copytree(labelled_cohort, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for registry in (ENCODERS, LEARNERS):  # what a page registers is gone after it
        assert [registry[name] for name in registry]  # what is expected is there before it
        monkeypatch.setattr(registry, "_items", dict(registry._items))


@pytest.fixture
def one_thread():
    """The nets are tiny: on a busy machine more threads wait for each other most of the time."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def brief_fits(monkeypatch):
    """That the code runs is shown by short fits too."""
    for option, value in {"members": 1, "epochs": 5, "witness_epochs": 5}.items():
        monkeypatch.setitem(InstanceConfig.__init__.__kwdefaults__, option, value)


@pytest.mark.slow
@pytest.mark.usefixtures("beside_slides", "one_thread", "brief_fits")
@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks_run_in_order(page):
    namespace = {"__name__": "documentation"}
    for line, text in blocks(page, "python"):
        exec(compile("\n" * line + text, name_of(page), "exec"), namespace)


@pytest.mark.usefixtures("beside_slides")
@pytest.mark.parametrize("page", pages_with("toml"))
def test_toml_blocks_are_configs_of_a_run(page):
    for _, text in blocks(page, "toml"):
        Path("run.toml").write_text(text)
        arguments = [
            "run",
            "slides",
            "run",
            "--table",
            "slides.csv",
            "--config",
            "run.toml",
            "--print-config",
        ]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.exception


@pytest.mark.parametrize(("page", "line"), shell_commands())
def test_commands_and_flags_in_shell_blocks_exist(page, line):
    _, verb, *rest = line.split()
    assert verb in COMMANDS, page
    known = {flag for p in COMMANDS[verb].params for flag in (*p.opts, *p.secondary_opts)}
    assert {word for word in rest if word.startswith("--")} <= known


@pytest.mark.parametrize("verb", COMMANDS)
def test_each_command_has_help_and_a_row_in_the_readme(verb):
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert COMMANDS[verb].help
    # click adds --help itself, with a text of its own
    assert not [p.name for p in COMMANDS[verb].params if not getattr(p, "help", "")]
    assert re.search(rf"^\| `slidebag {verb}[ `]", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)


def test_the_readme_names_no_command_that_is_not_there():
    rows = re.findall(r"^\| `slidebag ([\w-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert sorted(rows) == sorted(COMMANDS)


def test_learners_page_lists_every_learner():
    rows = re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs/learners.md").read_text(encoding="utf-8"), re.M)
    assert sorted(rows) == sorted(LEARNERS)


def test_the_readme_has_two_ways_to_set_up_and_ci_goes_the_second():
    set_up = [text.strip() for _, text in blocks(ROOT / "README.md", "bash")]
    assert [line.startswith("python3 -m venv .venv && .venv/bin/pip install ") for line in set_up] == [
        True,
        True,
    ]
    what = set_up[1].partition("pip install ")[2].partition(" &&")[0]
    assert what == '-e ".[test]"'
    script = (ROOT / ".ci/run").read_text()
    assert re.search(rf"/pip\" install .*{re.escape(what)}$", script, re.M)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, link
