"""Whatever README and docs show is done here, page by page, as a reader would; the site is built of them.

What takes hours is done smaller, what comes from elsewhere comes from this machine: `SMALLER` and the pages' worlds say
how. Everything else runs as it stands.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import own_family
import own_model
import pytest
import small_one_peace
import torch
import web_server
from doc_pages import LANGUAGES, PAGES, TOP, Step, blocks, steps
from golden_values import published_state
from media_files import make_media, record
from small_networks import small_networks

from davel import cli
from davel.data.scenes.render import render_scenes
from davel.data.simulate import draw_annotations
from davel.features import i3d_vggish
from davel.features.i3d_vggish import SPEC as I3D_VGGISH
from davel.features.one_peace.published import BASE, KINETICS
from davel.formats import read_annotations, write_annotations
from davel.models import CCNet, CCNetConfig
from davel.models.saved import ModelInfo, save_model

SMALL_MODEL = "--set model.width=8 --set model.class_width=4 --set recipe.epochs=1 --set recipe.warmup_epochs=0"
SMALLER = {
    "--videos 40 --seed 5": "--videos 10 --seed 5",
    "train my/train.yaml": f"train my/train.yaml {SMALL_MODEL}",
    "train ccnet-i3d --data unav100": f"train ccnet-i3d --data unav100 {SMALL_MODEL} --set recipe.batch_size=4",
    "--nproc-per-node 4": "--nproc-per-node 2",
    "--classes 20 --videos 400 --width 64 --epochs 18 --seeds 0,1,2": "--classes 2 --videos 4 --width 8 --epochs 2 "
    "--set recipe.batch_size=2",
}


class World:
    """A reader's folder, with what the page takes for granted, and what they type there."""

    def __init__(self, top: Path, patch: pytest.MonkeyPatch) -> None:
        self.top, self.patch = top, patch
        self.names: dict[str, str] = {}
        """What stands for what: placeholders, and addresses that are given by chance."""
        self.server: web_server.Server | None = None
        patch.chdir(top)
        patch.setenv("DAVEL_HOME", str(top / "home"))
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("OMP_NUM_THREADS", "1")

    def do(self, step: Step) -> None:
        text = step.text
        for name, meant in (SMALLER | self.names).items():
            text = text.replace(name, meant)
        if step.is_python:
            exec(compile(text, str(step), "exec"), {})
            return
        first = shlex.split(text)[0]
        try:
            if first in ("davel", "curl", "make", "pip", "torchrun"):
                getattr(self, first)(text)
            else:
                shell(text)
        except AssertionError as error:
            raise AssertionError(f"{step}: {error}") from error

    def davel(self, text: str) -> None:
        """In this process, unless a shell or a server is needed."""
        if re.search(r"[|>]", text):
            shell(text)
        elif text.startswith("davel serve"):
            self.serve(*shlex.split(text)[2:])
        else:
            self.patch.setattr(sys, "argv", shlex.split(text))
            code = 0
            try:
                cli.main()
            except SystemExit as end:
                code = int(end.code or 0)
            assert code == 0, f"exit code {code}"

    def serve(self, *options: str) -> None:
        """It runs until the next one, or the page's end."""
        self.close()
        given = list(options)
        at = given.index("--data") if "--data" in given else None
        data = given.pop(at + 1) if at is not None else "data"
        self.server = web_server.start(Path(data), *(option for option in given if option != "--data"))
        self.names["127.0.0.1:8765"] = f"127.0.0.1:{self.server.port}"
        self.visit()

    def visit(self) -> None:
        """What a reader does on the page before they go on."""

    def curl(self, text: str) -> None:
        out = shell(text.replace("curl", "curl --fail --silent --show-error", 1))
        if "/api/jobs?name=" in text:
            assert self.server is not None
            self.names["/ID"] = f"/{json.loads(out)['id']}"
            self.server.wait(json.loads(out)["id"])

    def pip(self, text: str) -> None:
        """What is to be installed was; that the extras have these names is what can be wrong."""
        wanted = re.fullmatch(r"pip install '(?:\.|davel)\[([a-z,]+)\]'", text)
        assert wanted, "expected the extras of a clone, '.[...]', or of what is installed, 'davel[...]'"
        known = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert set(wanted[1].split(",")) <= known.keys()

    def make(self, text: str) -> None:
        shell(f"{text} --dry-run --directory {shlex.quote(str(TOP))}")

    def torchrun(self, text: str) -> None:
        shutil.rmtree("runs")  # the same run, in several processes
        shell(text)

    def close(self) -> None:
        if self.server is not None:
            self.server.stop()
            self.server = None


def shell(text: str) -> str:
    done = subprocess.run(text, shell=True, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
    return done.stdout


@pytest.fixture
def world(tmp_path, monkeypatch) -> Iterator[World]:
    made = World(tmp_path, monkeypatch)
    yield made
    made.close()


def follow_the(page: str, world: World) -> None:
    for step in steps(page):
        world.do(step)


def scenes(target: Path, videos: int, seed: int = 5) -> Path:
    """A folder of rendered videos, of which nobody knows the events."""
    rendered = render_scenes(target.with_name(f".{target.name}"), num_videos=videos, seed=seed, workers=1).parent
    (rendered / "videos").rename(target)
    return rendered / "annotations.json"


def table_of(annotations: Path, target: Path) -> None:
    """As the page of `davel serve` keeps it."""
    videos = read_annotations(annotations).videos
    lines = [f"{key}.mp4,{e.start:.3f},{e.end:.3f},{e.label}" for key, v in videos.items() for e in v.events]
    target.write_text("\n".join(["file,start,end,label", *lines]) + "\n")


def small_clips(target: Path, *names: str) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        make_media(target / name, seconds=4)


@contextmanager
def published(world: World) -> Iterator[None]:
    """The published networks, by stand-ins that are no work, and their files, from a server on this machine."""
    made, patch, family = small_networks(), world.patch, i3d_vggish.FAMILY
    patch.setattr(i3d_vggish, "networks", lambda *_: made)
    files = world.top / ".published"
    files.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(files))
    patch.setattr(handler.func, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    served = []
    for known in family.weights:
        torch.save(published_state(known.name.replace("-", "_")), files / known.file)
        url = f"http://127.0.0.1:{server.server_address[1]}/{known.file}"
        served.append(replace(known, url=url, sha256=None))
    patch.setattr(i3d_vggish, "FAMILY", replace(family, weights=tuple(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def reader_of_published_features(target: Path) -> str:
    config = CCNetConfig(num_classes=2, width=16, class_width=8, max_length=64)
    save_model(target, CCNet(config), ModelInfo("tiny", config, I3D_VGGISH, ("bark", "bell"), 0.0, {}))
    return str(target)


def equal_features(*targets: Path) -> None:
    for target in targets:
        target.mkdir()
        for stream, width in (("rgb", 1024), ("flow", 1024), ("vggish", 128)):
            np.save(target / f"a_{stream}.npy", np.random.default_rng(width).standard_normal((9, width), np.float32))


def unav100(world: World, num_classes: int) -> None:
    write_annotations(world.top / "unav100_annotations.json", draw_annotations(20, num_classes))


# Pages


@pytest.mark.docs
def test_the_readme(world):
    small_clips(world.top, "clip.mp4", "new.mp4")
    small_clips(world.top / "archive", "a.mp4", "b.mkv")
    table_of(scenes(world.top / "videos", 10), world.top / "events.csv")
    unav100(world, 3)
    world.davel("davel data simulate unav100 --annotations unav100_annotations.json")
    equal_features(world.top / "mine", world.top / "official")
    world.names["extract videos/"] = "extract archive/"  # shorter ones
    world.names["-m MODEL"] = f"-m {reader_of_published_features(world.top / 'published')}"
    with published(world):
        follow_the("README.md", world)


@pytest.mark.docs
def test_the_home_page(world):
    small_clips(world.top, "clip.mp4")
    small_clips(world.top / "archive", "a.mp4", "b.mkv")
    follow_the("index.md", world)


class Labelling(World):
    """Whoever reads `start.md` labels all videos of the folder, as they truly are."""

    def visit(self) -> None:
        assert self.server is not None
        if (self.top / "labels" / "events.csv").exists():
            return  # they have done so
        true = read_annotations(self.top / "try" / "annotations.json").videos
        for file in self.server.json("GET", "/api/folder"):
            job = self.server.wait(self.server.json("POST", f"/api/folder/{file['id']}")["id"])
            revision = self.server.json("GET", f"/api/jobs/{job['id']}/events")["revision"]
            events = [{"label": e.label, "start": e.start, "end": e.end} for e in true[Path(file["name"]).stem].events]
            self.server.json("PUT", f"/api/jobs/{job['id']}/events", {"revision": revision, "events": events})
        self.close()


@pytest.mark.docs
def test_the_start(tmp_path, monkeypatch):
    world = Labelling(tmp_path, monkeypatch)
    small_clips(world.top, "new.mp4")
    try:
        follow_the("start.md", world)
    finally:
        world.close()
    lines = (world.top / "labels" / "events.csv").read_text().splitlines()
    true = read_annotations(world.top / "try" / "annotations.json").videos
    assert len(lines) == 1 + sum(len(video.events) for video in true.values())
    assert {"new.json", "new.png", "figures"} <= {path.name for path in world.top.iterdir()}


@pytest.mark.docs
def test_the_page_of_the_page(world):
    small_clips(world.top, "clip.mp4")
    table_of(scenes(world.top / "videos", 4), world.top / "events.csv")
    world.names["davel data init events.csv"] = "davel data init data/events.csv"
    (world.top / "data").mkdir()
    (world.top / "events.csv").rename(world.top / "data" / "events.csv")
    follow_the("page.md", world)


@pytest.mark.docs
def test_long_videos(world):
    for name in ("day.mkv", "camera.ts"):
        record(world.top / name, 80.0)
    follow_the("long.md", world)
    assert (world.top / "camera.vtt").read_text().startswith("WEBVTT")


@pytest.mark.docs
def test_unav100(world):
    unav100(world, 100)
    render_scenes(world.top / "data" / "test", num_videos=2, seed=3, subset="test", workers=1)
    released = {"epoch": 40, "state_dict": {}, "state_dict_ema": published_state("ccnet_i3d_vggish")}
    torch.save(released, world.top / "model_best.pth.tar")
    world.names |= {"evaluate predictions.json": "evaluate figures/predictions.json", "other.json": "figures"}
    world.names["runs/unav-i3d/best"] = "runs/ccnet-i3d/last"  # trained by the same command, under another name
    world.names["VIDEO_ID"] = next(iter(draw_annotations(20, 100).subset("test")))
    follow_the("unav100.md", world)


@pytest.mark.docs
def test_the_published_features(world):
    for name in ("v_GGSY1Qvo990.mp4", "v_ZNVhz7ctTq0.mp4"):
        make_media(world.top / name, seconds=3)
    equal_features(world.top / "mine", world.top / "official")
    with published(world):
        follow_the("features.md", world)


@pytest.mark.docs
def test_features_of_one_peace(world):
    home = world.top / ".home"
    small_one_peace.narrow(world.patch)
    small_one_peace.put_vocabulary(world.patch, home, {" event": 515})
    small_one_peace.save_base(home / "weights" / BASE.file)
    small_one_peace.save_kinetics(home / "weights" / KINETICS.file)
    world.patch.setenv("DAVEL_HOME", str(home))
    small_clips(world.top / "videos", "a.mp4")
    scenes(world.top / "scenes", 2).rename(world.top / "events.json")
    (world.top / "names.txt").write_text("dog barking\n")
    follow_the("one-peace.md", world)


@pytest.mark.docs
def test_features_of_ones_own(world):
    own_family.install(world.patch, world.top / ".site", world.top / ".home")
    small_clips(world.top / "videos", "a.mp4")
    follow_the("own-features.md", world)


@pytest.mark.docs
def test_a_model_of_ones_own(world):
    own_model.install(world.patch, world.top / ".site")
    small_clips(world.top, "clip.mp4")
    (world.top / "toy.yaml").write_text(own_model.block("yaml"))
    follow_the("own-model.md", world)
    found = json.loads((world.top / "events" / "clip.json").read_text())
    assert found["curves"]["actionness"]
    log = json.loads((world.top / "runs" / "toy" / "log.jsonl").read_text().splitlines()[-1])
    assert {"classes", "boundaries", "actionness"} <= log.keys()


@pytest.mark.docs
@pytest.mark.parametrize("page", sorted(PAGES.keys() - {
    "README.md", "index.md", "start.md", "page.md", "long.md", "unav100.md", "features.md",
    "one-peace.md", "own-features.md", "own-model.md"
}))  # fmt: skip
def test_other_pages(page, world):
    small_clips(world.top, "clip.mp4")
    follow_the(page, world)


def test_every_block_says_what_it_is():
    for page in PAGES:
        for language, line, _ in blocks(page):
            assert language in LANGUAGES, f"{page}:{line}: a block of {language or 'nothing'}: commands are sh"


def test_a_command_that_fails_is_found(world):
    with pytest.raises(AssertionError, match=r"x\.md:7: davel localize gone\.mp4: exit code 3"):
        world.do(Step("x.md", 7, "davel localize gone.mp4"))
    with pytest.raises(AssertionError, match="exit code"):
        world.do(Step("x.md", 8, "cat gone.txt"))
    with pytest.raises(AssertionError):
        world.do(Step("x.md", 9, "pip install '.[webb]'"))


@pytest.mark.docs
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 10
    tags = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)')
    loaded = [(page.parent.name, url) for page in pages for url in tags.findall(page.read_text())]
    assert not [entry for entry in loaded if "//" in entry[1]]
    api = (tmp_path / "site" / "api" / "index.html").read_text()
    assert "The audio-visual events of a media file of any length" in api
