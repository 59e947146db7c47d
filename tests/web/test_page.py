"""The page of `davel serve` in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from itertools import count
from pathlib import Path

import pytest
from media_files import grey, make_media
from tiny import LABELS, tiny_model
from web_server import Server, start

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
# fmt: off
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
)
# fmt: on
SECONDS = 8.0
BOXES = count()


@pytest.fixture(scope="module")
def browser():
    path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    assert path, "install Chromium, or let CHROMIUM name it"
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return make_media(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=SECONDS)


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Path:
    return make_media(tmp_path_factory.mktemp("clip") / "long.mp4", seconds=600, picture=lambda t: grey(90))


@pytest.fixture(scope="module")
def server(model, clip, tmp_path_factory):
    top = tmp_path_factory.mktemp("server")
    (top / "videos").mkdir()
    shutil.copy(clip, top / "videos" / "in the folder.mp4")
    (top / "truth.csv").write_text("file,start,end,label\nclip.mp4,1,3,bell\n")
    running = start(top / "data", top / "videos", "-m", model, "--annotations", top / "truth.csv", "--workers", 2)
    yield running
    running.stop()


@pytest.fixture
def new_page(browser):
    """Opens pages, each a visitor of its own; what goes wrong in them fails the test."""
    contexts, problems = [], []

    def open_one(**options):
        context = browser.new_context(**({"viewport": {"width": 1200, "height": 1000}} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if "Content Security Policy" in m.text else None)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page(new_page):
    return new_page()


@pytest.fixture(scope="module")
def job(server, clip) -> dict:
    return server.done(clip)


def another(clip: Path) -> bytes:
    """The same pictures and sound in other bytes: another video to the server."""
    box = next(BOXES).to_bytes(8, "big")
    return clip.read_bytes() + (8 + len(box)).to_bytes(4, "big") + b"free" + box


def events_of(server: Server, job: dict) -> list[dict]:
    return server.json("GET", f"/api/jobs/{job['id']}/events")["events"]


def view(page, server: Server, job: dict, **state: object) -> None:
    page.goto("about:blank")
    page.goto(f"{server.url}/#job={job['id']}" + "".join(f"&{key}={value}" for key, value in state.items()))
    expect(page.locator("#viewer")).to_be_visible()
    until(page, "() => document.getElementById('video').readyState >= 1")


def until(page, condition: str, argument: object = None) -> None:
    """Waits for a function in JavaScript to give something true; the page itself forbids evaluation of text."""
    end = time.monotonic() + 60
    while not page.evaluate(condition, argument):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def home(page, server: Server) -> None:
    page.goto(server.url)
    expect(page.locator("#model")).not_to_be_empty()


def shown(page) -> int:
    expect(page.locator("#table-caption")).not_to_be_empty()
    return page.locator("#lanes .event").count()


def position(page) -> float:
    return page.evaluate("document.getElementById('video').currentTime")


def test_a_video_is_uploaded_worked_on_and_shown(page, server, clip):
    home(page, server)
    expect(page.locator("#model")).to_have_text("model tiny, 3 classes")
    page.set_input_files("#files", clip)
    card = page.locator("#jobs li", has_text="clip.mp4").first
    expect(card).to_have_attribute("data-state", "done", timeout=60_000)
    expect(page.locator("#status")).to_have_text("clip.mp4: is done")
    key = card.get_attribute("data-job")
    card.get_by_role("link").click()
    expect(page.locator("#viewer")).to_be_visible()
    until(page, "() => document.getElementById('video').readyState >= 2")
    assert page.evaluate("document.getElementById('video').duration") == pytest.approx(SECONDS, abs=0.2)
    found = events_of(server, {"id": key})
    assert shown(page) == len(found)
    lanes = page.locator("#lanes .lane .name").all_text_contents()
    assert lanes == [label for label in LABELS if any(e["label"] == label for e in found) or label == "bell"]
    assert page.locator("[data-label=bell] .truth").count() == 1
    for canvas in ("ruler", "waveform", "gate-audio", "gate-visual"):
        until(
            page,
            """id => { const c = document.getElementById(id);
            return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((x) => x > 0); }""",
            canvas,
        )
    server.ask("DELETE", f"/api/jobs/{key}")


def test_a_dropped_file_is_uploaded(page, server, clip):
    home(page, server)
    page.wait_for_selector("#model:not(:empty)")
    page.evaluate(
        """bytes => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "dropped.mp4"));
        const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
        document.getElementById("drop").dispatchEvent(event);
        }""",
        list(clip.read_bytes()),
    )
    card = page.locator("#jobs li", has_text="dropped.mp4")
    expect(card).to_have_attribute("data-state", "done", timeout=60_000)
    page.once("dialog", lambda dialog: dialog.accept())
    card.get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)


def test_a_video_of_the_servers_folder_is_chosen(page, server):
    home(page, server)
    page.get_by_label("Name contains").fill("FOLDER")
    page.get_by_role("button", name="Find the events of in the folder.mp4").click()
    expect(page.locator("#viewer")).to_be_visible(timeout=60_000)
    expect(page.locator("#video-title")).to_have_text("in the folder.mp4")


def test_the_axis_seeks_and_the_keys_move(page, server, job):
    view(page, server, job)
    box = page.locator("#ruler").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 5)
    assert position(page) == pytest.approx(SECONDS / 2, abs=0.05)
    cursor = page.locator("#cursor").bounding_box()
    assert cursor["x"] == pytest.approx(box["x"] + box["width"] * 0.5, abs=3)
    page.keyboard.press("ArrowRight")
    assert position(page) == pytest.approx(SECONDS / 2 + 1, abs=0.05)
    page.keyboard.press("Shift+ArrowLeft")
    assert position(page) == 0
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_text("Pause")
    until(page, "() => document.getElementById('video').currentTime > 0.3")
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_text("Play")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()


def test_a_click_on_an_event_plays_it_to_its_end(page, server, job):
    view(page, server, job)
    event = min(events_of(server, job), key=lambda e: e["end"] - e["start"])
    page.locator(f"#lanes [data-label={event['label']}] .event").evaluate_all(
        "(blocks, text) => blocks.find((b) => b.title.includes(text)).click()", f"score {event['score']:.2f}"
    )
    expect(page.locator("#edit-start")).to_have_value(f"{event['start']:.2f}")
    until(
        page,
        "e => { const v = document.getElementById('video'); return v.paused && v.currentTime >= e; }",
        event["end"],
    )
    assert position(page) < event["end"] + 0.5


def test_brackets_go_from_event_to_event(page, server, job):
    view(page, server, job)
    starts = sorted(e["start"] for e in events_of(server, job))
    for start_seconds in starts[:3]:
        page.keyboard.press("]")
        assert position(page) == pytest.approx(start_seconds, abs=0.01)
    page.keyboard.press("[")
    assert position(page) == pytest.approx(starts[1], abs=0.01)


def test_the_threshold_and_the_filter_choose_and_the_link_keeps_them(page, server, job):
    events = events_of(server, job)
    threshold = sorted(e["score"] for e in events)[len(events) // 2]
    threshold = int(threshold * 100) / 100
    view(page, server, job)
    page.locator("#threshold").fill(f"{threshold:.2f}")
    kept = [e for e in events if e["score"] >= threshold]
    assert 0 < len(kept) < len(events)
    assert shown(page) == len(kept)
    page.locator("#filter summary").click()
    page.get_by_label(kept[0]["label"], exact=True).uncheck()
    left = [e for e in kept if e["label"] != kept[0]["label"]]
    assert shown(page) == len(left)
    page.keyboard.press("Escape")
    box = page.locator("#ruler").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + 5)
    page.get_by_role("button", name="Zoom in").click()
    until(page, "() => location.hash.includes('hide=')")
    page.wait_for_timeout(400)
    link, was, lanes = page.url, position(page), page.locator("#lanes").inner_html()
    again = page.context.new_page()
    again.goto(link)
    expect(again.locator("#viewer")).to_be_visible()
    until(again, "() => document.getElementById('video').readyState >= 1")
    assert position(again) == pytest.approx(was, abs=0.02)
    without_ids = [re.sub(r'data-event="\d+" ', "", html) for html in (again.locator("#lanes").inner_html(), lanes)]
    assert without_ids[0] == without_ids[1]


def test_the_time_axis_is_zoomed_and_moved(page, server, job):
    view(page, server, job)
    pan = page.locator("#pan")
    expect(pan).to_be_disabled()
    for _ in range(2):
        page.keyboard.press("+")
    expect(pan).to_be_enabled()
    spans = "document.getElementById('pan').getAttribute('aria-valuetext')"
    assert page.evaluate(spans) == "0:00.0 to 0:02.0"
    pan.fill("3")
    assert page.evaluate(spans) == "0:03.0 to 0:05.0"
    box = page.locator("#waveform").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 5)
    page.keyboard.down("Control")
    page.mouse.wheel(0, 2000)
    page.keyboard.up("Control")
    until(page, f"() => ['0:00.0 to 0:08.0', '0:00.0 to 0:08.1'].includes({spans})")


def pick(page, number: int) -> None:
    """The event of that number in the table, without playing on."""
    page.locator("#rows button").nth(number).click()
    page.evaluate("document.getElementById('video').pause()")


def test_events_are_corrected_undone_saved_and_exported(page, server, clip):
    job = server.done(another(clip), "correct me.mp4")
    view(page, server, job)
    number = shown(page)
    pick(page, 0)
    end = float(page.locator("#edit-end").input_value())
    handle = page.locator(".event.picked .handle.end").bounding_box()
    lane = page.locator("#lanes .track").first.bounding_box()
    start_seconds = float(page.locator("#edit-start").input_value())
    target = (start_seconds + end) / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + 5)
    page.mouse.down()
    page.mouse.move(lane["x"] + lane["width"] * target / job["duration"], handle["y"] + 5, steps=5)
    page.mouse.up()
    assert float(page.locator("#edit-end").input_value()) == pytest.approx(target, abs=0.05)
    page.keyboard.press("Control+z")
    assert float(page.locator("#edit-end").input_value()) == end
    page.keyboard.press("Control+Shift+Z")
    assert float(page.locator("#edit-end").input_value()) == pytest.approx(target, abs=0.05)

    page.locator("#edit-label").fill("quite new")
    page.locator("#edit-label").press("Enter")
    expect(page.locator("[data-label='quite new'] .event")).to_have_count(1)
    page.locator("#edit-end").fill("99")
    page.locator("#edit-end").press("Enter")
    expect(page.locator("#status")).to_contain_text("The video ends at")
    page.locator("#edit-end").fill(f"{target:.2f}")
    page.locator("#edit-end").press("Enter")

    pick(page, number - 1)
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#lanes .event")).to_have_count(number - 1)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#lanes .event")).to_have_count(number)
    page.get_by_role("button", name="Redo").click()
    page.evaluate("document.getElementById('video').currentTime = 3")
    page.get_by_role("button", name="New event").click()
    page.locator("#edit-label").fill("added")
    page.locator("#edit-label").press("Enter")
    page.locator("#edit-start").fill("3.25")
    page.locator("#edit-start").press("Tab")
    page.locator("#edit-end").fill("4.5")
    page.locator("#edit-end").press("Tab")
    assert page.evaluate("document.getElementById('save').textContent") == "Save *"
    page.keyboard.press("Control+s")
    expect(page.locator("#status")).to_contain_text(f"Saved {number} events")

    kept = server.json("GET", f"/api/jobs/{job['id']}/events")
    assert (kept["revision"], kept["corrected"], len(kept["events"])) == (1, True, number)
    assert {"label": "added", "start": 3.25, "end": 4.5, "score": 1.0} in kept["events"]
    assert "correct me.mp4,3.250,4.500,added," in (server.data / "events.csv").read_text()
    page.locator("#format").select_option("csv")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "correct me.csv"
    assert "correct me.mp4,added,3.250,4.500,1.0000\n" in Path(download.value.path()).read_text()
    view(page, server, job)
    assert shown(page) == number
    expect(page.locator("#status")).to_contain_text("as they were saved")


def test_leaving_without_saving_is_asked_about(page, server, job):
    view(page, server, job)
    pick(page, 0)
    page.keyboard.press("Delete")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("link", name="All videos").click()
    expect(page.locator("#viewer")).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("link", name="davel").click()
    expect(page.locator("#videos")).to_be_visible()


def test_two_people_at_once(new_page, server, clip):
    pages = [new_page(), new_page()]
    for n, page in enumerate(pages):
        home(page, server)
        page.set_input_files("#files", [{"name": f"of {n}.mp4", "mimeType": "video/mp4", "buffer": another(clip)}])
    for page in pages:
        for n in range(2):
            card = page.locator("#jobs li", has_text=f"of {n}.mp4")
            expect(card).to_have_attribute("data-state", "done", timeout=60_000)
    key = pages[0].locator("#jobs li", has_text="of 0.mp4").get_attribute("data-job")
    first, second = pages
    for page in pages:
        view(page, server, {"id": key})
        pick(page, 0)
        page.keyboard.press("Delete")
    first.get_by_role("button", name="Save").click()
    expect(first.locator("#status")).to_contain_text("Saved")
    second.get_by_role("button", name="Save").click()
    expect(second.locator("#conflict")).to_be_visible()
    second.get_by_role("button", name="Show theirs").click()
    expect(second.locator("#status")).to_contain_text("as somebody else has saved them")
    assert shown(second) == shown(first)
    pick(second, 0)
    second.keyboard.press("Delete")
    second.get_by_role("button", name="Save").click()
    expect(second.locator("#status")).to_contain_text("Saved")
    pick(first, 0)
    first.keyboard.press("Delete")
    first.get_by_role("button", name="Save").click()
    first.get_by_role("button", name="Save mine").click()
    expect(first.locator("#status")).to_contain_text("Saved")
    assert server.json("GET", f"/api/jobs/{key}")["revision"] == 3


def test_a_broken_upload_is_told(page, server, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"this is no video" * 100)
    home(page, server)
    page.set_input_files("#files", tmp_path / "broken.mp4")
    card = page.locator("#jobs li", has_text="broken.mp4")
    expect(card).to_have_attribute("data-state", "failed", timeout=60_000)
    expect(card).to_contain_text("broken.mp4: not a media file")
    card.get_by_role("link").click()
    expect(page.locator("#progress-text")).to_contain_text("not a media file")
    expect(page.locator("#viewer")).to_be_hidden()


def test_a_job_is_cancelled(page, server, long):
    home(page, server)
    page.set_input_files("#files", long)
    card = page.locator("#jobs li", has_text="long.mp4")
    expect(card).to_have_attribute("data-state", "running", timeout=60_000)
    card.get_by_role("link").click()
    expect(page.locator("#progress")).to_be_visible()
    expect(page.locator("#progress-text")).to_contain_text("of 10:00")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#progress-text")).to_have_text("Cancelled")
    expect(page.locator("#cancel")).to_be_hidden()


def odd_one(folder: Path, name: str = "odd.avi", seconds: float = 6, **options: object) -> Path:
    """A video that Chromium does not play, or not all of it; its pictures get lighter."""
    made = {"video_codec": "mpeg4", "audio_codec": "mp2", "sample_rate": 32000} | options
    return make_media(
        folder / name, seconds=seconds, picture=lambda t: grey(min(int(40 + 30 * t), 230), (144, 176)), **made
    )


def grey_shown(page) -> float:
    """The middle of the picture, as the browser draws it."""
    return page.evaluate(
        """() => { const c = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        c.drawImage(document.getElementById('video'), 0, 0, 300, 150);
        return c.getImageData(150, 75, 1, 1).data[1]; }"""
    )


LOADED = "() => document.getElementById('video').readyState >= 2 && document.getElementById('video').videoWidth > 0"


def test_what_the_browser_cannot_play_is_watched_as_a_copy(page, server, tmp_path):
    job = server.done(odd_one(tmp_path))
    page.goto(f"{server.url}/#job={job['id']}&t=2")
    told = page.locator("#unplayable")
    expect(told).to_contain_text("cannot play odd.avi")
    assert shown(page) > 0
    page.keyboard.press("ArrowRight")
    assert position(page) == pytest.approx(3, abs=0.01)
    button = page.get_by_role("button", name="Make a copy to watch")
    button.focus()
    page.keyboard.press("Enter")
    until(page, LOADED)
    expect(told).to_contain_text("a small copy of it")
    expect(button).to_be_hidden()
    assert page.evaluate("document.getElementById('video').duration") == pytest.approx(job["duration"], abs=0.05)
    assert position(page) == pytest.approx(3, abs=0.01)
    until(page, "() => !document.getElementById('video').seeking")
    assert grey_shown(page) == pytest.approx(130, abs=6)
    expect(page.locator("#play")).to_be_focused()
    page.keyboard.press("Space")
    until(page, "() => document.getElementById('video').currentTime > 4.5")
    page.keyboard.press("Space")
    expect(told).to_contain_text("cannot play odd.avi")
    # once it is there it is used at once
    until(page, "() => /t=[4-6]/.test(location.hash)")
    page.wait_for_timeout(400)
    again = page.context.new_page()
    again.goto(page.url)
    until(again, LOADED)
    assert position(again) == pytest.approx(position(page), abs=0.02)
    expect(again.get_by_role("button", name="Make a copy to watch")).to_be_hidden()


def test_a_copy_is_cancelled(page, server, tmp_path):
    job = server.done(odd_one(tmp_path, seconds=200))
    page.goto(f"{server.url}/#job={job['id']}")
    page.get_by_role("button", name="Make a copy to watch").click()
    expect(page.locator("#copy-text")).to_contain_text("of 3:20")
    page.locator("#cancel-copy").click()
    button = page.get_by_role("button", name="Make a copy to watch")
    expect(button).to_be_focused()
    expect(page.locator("#copy-progress")).to_be_hidden()
    assert server.json("GET", f"/api/jobs/{job['id']}/copy") is None
    server.ask("DELETE", f"/api/jobs/{job['id']}")


def test_a_copy_that_does_not_play_either_is_not_made_again_and_again(page, server, tmp_path):
    job = server.done(odd_one(tmp_path))
    server.json("POST", f"/api/jobs/{job['id']}/copy", expect=201)
    file = server.data / "results" / job["id"] / "copy.mp4"
    until = time.monotonic() + 60
    while not file.exists() and time.monotonic() < until:
        page.wait_for_timeout(50)
    file.write_bytes(b"as if this browser knew no H.264")
    page.goto(f"{server.url}/#job={job['id']}")
    expect(page.locator("#unplayable")).to_contain_text("It cannot play the copy either")
    expect(page.get_by_role("button", name="Make a copy to watch")).to_be_hidden()
    assert shown(page) > 0


def test_why_there_is_no_copy_is_told(page, server, tmp_path):
    job = server.done(odd_one(tmp_path))
    (server.data / "uploads" / job["id"]).write_bytes(b"no video any more")
    page.goto(f"{server.url}/#job={job['id']}")
    page.get_by_role("button", name="Make a copy to watch").click()
    expect(page.locator("#copy-text")).to_contain_text("odd.avi: not a media file")
    (server.data / "uploads" / job["id"]).unlink()
    page.get_by_role("button", name="Make a copy to watch").click()
    expect(page.locator("#copy-text")).to_have_text("odd.avi: is not there any more")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"audio_codec": "aac"}, "show the pictures"),
        ({"video_codec": "libx264", "audio_codec": "ac3"}, "play the sound"),
    ],
)
def test_what_the_browser_leaves_out_is_noticed(page, server, tmp_path, options, what):
    job = server.done(odd_one(tmp_path, "odd.mkv", **options))
    page.goto(f"{server.url}/#job={job['id']}")
    expect(page.locator("#viewer")).to_be_visible()
    page.evaluate("document.getElementById('video').play()")
    expect(page.locator("#unplayable")).to_contain_text(f"This browser cannot {what} of odd.mkv.")
    page.get_by_role("button", name="Make a copy to watch").click()
    expect(page.locator("#unplayable")).to_contain_text("a small copy of it")
    until(page, LOADED)
    page.evaluate("document.getElementById('video').play()")
    until(page, "() => document.getElementById('video').webkitAudioDecodedByteCount > 0")
    assert page.evaluate("document.getElementById('video').currentSrc").endswith("/copy/media")


def test_sound_that_sets_in_late_is_no_missing_sound(page, server, tmp_path):
    job = server.done(make_media(tmp_path / "late.mp4", seconds=5, audio_start=3.0))
    view(page, server, job)
    page.evaluate("document.getElementById('video').play()")
    until(page, "() => document.getElementById('video').currentTime > 4.5")
    expect(page.locator("#unplayable")).to_be_hidden()


def test_a_restart_in_the_middle_goes_on(page, model, long, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = start(tmp_path, "-m", model, "--port", port)
    home(page, first)
    page.set_input_files("#files", long)
    card = page.locator("#jobs li", has_text="long.mp4")
    expect(card).to_have_attribute("data-state", "running", timeout=60_000)
    first.stop(signal.SIGKILL)
    expect(page.locator("#status")).to_contain_text("does not answer", timeout=10_000)
    second = start(tmp_path, "-m", model, "--port", port)
    try:
        expect(card).to_have_attribute("data-state", "done", timeout=90_000)
        card.get_by_role("link").click()
        expect(page.locator("#viewer")).to_be_visible()
    finally:
        second.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_all_of_it(new_page, server, job, scheme):
    page = new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    home(page, server)
    page.wait_for_selector("#jobs li")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    view(page, server, job)
    pick(page, 0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    boxes = page.evaluate(
        """[...document.querySelectorAll('#viewer button:not(.event), #viewer select, #viewer input')]
        .filter((e) => e.offsetParent && !e.closest('#filter'))
        .map((e) => [e.id || e.textContent, e.getBoundingClientRect()])
        .map(([name, box]) => [name, box.left, box.right, box.height])"""
    )
    assert len(boxes) > 15
    assert [box for box in boxes if box[1] < 0 or box[2] > 400 or box[3] < 10] == []


def contrast(first: str, second: str) -> float:
    """As WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        full = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
        parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(new_page, server, scheme):
    page = new_page(color_scheme=scheme)
    home(page, server)
    names = ["paper", "field", "ink", "quiet", "accent", "cursor", "truth", "sound", "gate"]
    colours = page.evaluate(
        "names => Object.fromEntries(names.map((n) => "
        "[n, getComputedStyle(document.documentElement).getPropertyValue('--' + n).trim()]))",
        names,
    )
    for text in ("ink", "quiet", "accent"):
        assert contrast(colours[text], colours["paper"]) >= 4.5, text
        assert contrast(colours[text], colours["field"]) >= 4.5, text
    assert contrast(colours["cursor"], colours["paper"]) >= 4.5
    for picture in ("truth", "sound", "gate"):
        assert contrast(colours[picture], colours["paper"]) >= 3, picture


def test_everything_has_a_name_for_a_screen_reader(page, server, job):
    nameless = """[...document.querySelectorAll('button, input, select, video, progress, [role=toolbar], a')]
        .filter((e) => e.offsetParent !== null)
        .filter((e) => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim()
            || [...(e.labels ?? [])].some((l) => l.textContent.trim())))
        .map((e) => e.outerHTML)"""
    home(page, server)
    page.wait_for_selector("#jobs li")
    assert page.evaluate(nameless) == []
    view(page, server, job)
    pick(page, 0)
    assert page.evaluate(nameless) == []
    assert page.locator("[role=status]").inner_text()
    assert page.locator("h1, h2").evaluate_all("e => e.filter((x) => x.offsetParent).map((x) => x.tagName)") == [
        "H1",
        "H2",
    ]


def test_the_keyboard_alone_is_enough(page, server, clip):
    job = server.done(another(clip), "by keys.mp4")
    home(page, server)
    link = page.get_by_role("link", name="by keys.mp4")
    link.wait_for()
    for _ in range(40):
        page.keyboard.press("Tab")
        if link.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    until(page, "() => document.getElementById('video').readyState >= 1")
    number = shown(page)
    page.keyboard.press("]")
    page.keyboard.press("ArrowRight")
    time_seconds = position(page)
    page.keyboard.press("o")
    assert float(page.locator("#edit-end").input_value()) == pytest.approx(time_seconds, abs=0.011)
    page.keyboard.press("n")
    expect(page.locator("#edit-label")).to_be_focused()
    page.keyboard.type("typed in")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+s")
    expect(page.locator("#status")).to_contain_text(f"Saved {number + 1} events")
    assert "typed in" in json.dumps(server.json("GET", f"/api/jobs/{job['id']}/events"))


def test_the_token_opens_the_page(page, model, tmp_path):
    token = "a token of many letters"
    running = start(tmp_path, "-m", model, "--token", token)
    try:
        assert page.goto(running.url).status == 401
        page.goto(f"{running.url}/?token={token}")
        expect(page.locator("#no-jobs")).to_be_visible()
        assert "token" not in page.url
    finally:
        running.stop()
