"""The commit that is written beside a result."""

import subprocess

from trainers.common import commit


def test_the_commit_of_the_checkout_and_whether_files_differ(tmp_path, monkeypatch):
    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    git("init")
    monkeypatch.setattr(commit, "_CHECKOUT", tmp_path)
    assert commit.commit() == ""  # no commit yet
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", "one")
    git("tag", "v1")
    one = commit.commit()
    assert len(one) == 12
    (tmp_path / "installed").mkdir()
    monkeypatch.setattr(commit, "_CHECKOUT", tmp_path / "installed")
    assert commit.commit() == ""  # not that of a folder above an installed package
    monkeypatch.setattr(commit, "_CHECKOUT", tmp_path)
    (tmp_path / "code.py").write_text("2")
    assert commit.commit() == f"{one}-dirty"
