"""The house's own rules: who may know whom, and how large a thing may get."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_USE = {"tiling": set(), "features": {"tiling"}, "mil": {"tiling", "features"}}
FILES = sorted(path for package in MAY_USE for path in (ROOT / package).rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 40


def imports(path):
    """(module, names) of every absolute import in a file; names is None for `import module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module, [alias.name for alias in node.names]


def test_packages_know_only_those_below_and_by_the_front_door():
    wrong = []
    for path in FILES:
        package = path.relative_to(ROOT).parts[0]
        for module, names in imports(path):
            other = module.partition(".")[0]
            if other not in MAY_USE or other == package:
                continue
            public = set(importlib.import_module(other).__all__)
            if other not in MAY_USE[package] or module != other or not set(names or ()) <= public:
                wrong.append(f"{path.relative_to(ROOT)}: {module} {names or ''}")
    assert wrong == []


@pytest.mark.parametrize("package", sorted(MAY_USE))
def test_the_front_door_names_what_is_there(package):
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_tiling_imports_no_torch():
    told = "import sys, tiling; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert not {"torch", "timm", "sklearn", "pandas", "features", "mil"} & set(done.stdout.split())


def test_features_imports_no_torch():
    """A card is known at once; what an encoder needs is imported when it is loaded."""
    told = "import sys, features; assert len(list(features.ENCODERS)) > 40; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    heavy = {"torch", "timm", "huggingface_hub", "safetensors", "skimage.feature", "onnxruntime", "mil"}
    assert not heavy & set(done.stdout.split())


def test_nothing_is_named_after_a_drawer():
    assert [
        str(path)
        for path in FILES
        if {"utils", "util", "common", "helpers", "misc"} & {*path.relative_to(ROOT).parts, path.stem}
    ] == []


def test_files_are_short():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in FILES}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_functions_are_short():
    long = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                # the docstring and the signature tell; the body is what one has to hold in mind
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                n_lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if n_lines > MAX_FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}: {node.name}"] = n_lines
    assert long == {}


def test_tests_are_no_packages_and_their_names_are_unique():
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert [str(path) for path in tests if path.name == "__init__.py"] == []
    names = [path.name for path in tests if path.name != "conftest.py"]
    assert sorted(set(names)) == sorted(names)
