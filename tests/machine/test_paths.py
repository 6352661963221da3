"""Where things are found: checkout and wheel layouts, the cache folder and its stand-in."""

import os
import sys
import warnings
from pathlib import Path

import pytest

from tfexplore.machine import paths


@pytest.fixture(autouse=True)
def _forget():
    paths._usable.cache_clear()
    yield
    paths._usable.cache_clear()


@pytest.mark.parametrize(("find", "name", "file"), [
    (paths.kernels_dir, "kernels", "forward.cu"),
    (paths.notebooks_dir, "notebooks", "00_start_here.ipynb"),
])  # fmt: skip
def test_shipped_files_are_found_beside_the_package_or_inside_it(tmp_path, monkeypatch, find, name, file):
    package = tmp_path / "tfexplore"
    monkeypatch.setattr(paths, "PACKAGE", package)
    with pytest.raises(paths.MissingFiles, match=f"reinstall tfexplore, or copy the folder {name}/") as caught:
        find()
    assert "\n" not in str(caught.value)

    (tmp_path / name).mkdir()  # in site-packages this could be anybody's folder of that name
    with pytest.raises(paths.MissingFiles):
        find()
    (tmp_path / name / file).touch()
    assert find() == tmp_path / name

    (package / name).mkdir(parents=True)
    (package / name / file).touch()
    assert find() == package / name  # an installed wheel's own files come first


def test_the_environment_names_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFEXPLORE_CACHE", str(tmp_path / "deep" / "cache"))
    assert paths.cache_dir() == tmp_path / "deep" / "cache"
    assert paths.cache_dir().is_dir()


@pytest.mark.parametrize(("platform", "variable"), [("linux", "XDG_CACHE_HOME"), ("win32", "LOCALAPPDATA")])
def test_the_platform_has_its_own_cache(tmp_path, monkeypatch, platform, variable):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert tmp_path in paths.default_cache_dir().parents
    monkeypatch.delenv(variable)
    assert Path.home() in paths.default_cache_dir().parents
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Library" in paths.default_cache_dir().parts


def test_an_unwritable_cache_is_replaced_and_said_once(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TFEXPLORE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning, match="set the environment variable TFEXPLORE_CACHE"):
        folder = paths.cache_dir()
    assert folder.is_dir()
    if os.name == "posix":
        assert folder.stat().st_mode & 0o077 == 0  # code is loaded from here: no other user may write
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paths.cache_dir() == folder
