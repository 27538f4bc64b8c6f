"""The page in a real browser, with a fake microphone and camera: what is seen, heard, typed and sent."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import uvicorn

from demeanor.server import live_routes
from demeanor.server.page import page
from demeanor.timeline.hearing import energy
from tests.server.conftest import CLIPS, on_loop
from tests.server.test_door import sound

BROWSER = shutil.which("chromium")
in_browser = pytest.mark.skipif(
    BROWSER is None or importlib.util.find_spec("playwright") is None,
    reason="needs Debian's chromium (apt-get install chromium) and the package playwright, which drives it",
)


@pytest.fixture(scope="module")
def address(door) -> Iterator[str]:
    """The server of `door` on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(door.app, port=0, lifespan="off", log_config=None, access_log=False))
    done = door.portal.start_task_soon(server.serve)
    while not server.started:
        assert not done.done()
        threading.Event().wait(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    done.result(timeout=30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    voice = tmp_path_factory.mktemp("voice") / "voice.wav"
    voice.write_bytes(sound(5.0, rate=16_000))
    options = ("--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    with sync_playwright() as play:
        started = play.chromium.launch(
            executable_path=BROWSER, args=[*options, f"--use-file-for-fake-audio-capture={voice}"]
        )
        yield started
        started.close()


def opened(browser: Any, address: str, scheme: str = "light", width: int = 1100) -> tuple[Any, list[str]]:
    """The page, and what went wrong in it: errors, and requests to anybody else."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on(
        "request",
        lambda request: None if request.url.startswith((address, "blob:", "data:")) else wrong.append(request.url),
    )
    tab.goto(address)
    until(tab, "document.getElementById('model').textContent")
    return tab, wrong


def until(tab: Any, expression: str) -> None:
    """Wait for something in the page. By evaluating, which a content security policy does not stop, unlike polling."""
    for _ in range(600):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(100)
    raise AssertionError(f"a minute has passed, and still not: {expression}; it says {tab.text_content('#status')}")


def scored(tab: Any) -> str:
    """What the page says once it has an answer."""
    until(tab, "/^Done|\\(/.test(document.getElementById('status').textContent)")
    return tab.text_content("#status")


@in_browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 1100), ("light", 390)])
def test_an_example_is_scored_and_everybody_can_read_it(browser, address, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    tab, wrong = opened(browser, address, scheme, width)
    tab.get_by_role("button", name="Example: glad").click()
    assert scored(tab).startswith("Done")
    assert "face" in tab.text_content("#details")
    found = Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert wrong == []
    tab.context.close()


@in_browser
def test_a_page_that_is_opened_while_models_are_loaded_goes_on_by_itself(browser, address):
    tab = browser.new_context().new_page()
    refused: list[str] = []

    def early(route: Any) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route.request.url)
        told = {"code": "not_ready", "message": "the models are still being loaded"}
        route.fulfill(status=503, headers={"Retry-After": "1"}, json=told)

    tab.route("**/v1/model*", early)
    tab.goto(address)
    until(tab, "/goes on by itself/.test(document.getElementById('status').textContent)")
    until(tab, "document.getElementById('model').textContent")
    assert refused
    assert tab.text_content("#status") == ""
    assert "curl" in tab.text_content("body")
    tab.context.close()


@in_browser
def test_by_keyboard_from_span_to_span_and_without_the_face(browser, address):
    tab, wrong = opened(browser, address)
    tab.get_by_role("button", name="Example: sad").click()
    scored(tab)
    first = tab.locator(".track button.span").first
    first.focus()
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate("document.activeElement.getAttribute('aria-label')").startswith("words, 0.0 s to 1.5 s")
    tab.keyboard.press("Enter")
    until(tab, "document.getElementById('player').currentTime > 0")
    with tab.expect_request(re.compile("without=vision")):
        tab.get_by_role("checkbox", name="face").uncheck()
    scored(tab)
    until(tab, "document.querySelector('[role=group][aria-label=face] .span.empty') !== null")
    assert "without=vision" in tab.text_content("#curl")
    with tab.expect_download() as saved:
        tab.get_by_role("button", name="JSON").click()
    assert '"spans"' in Path(saved.value.path()).read_text(encoding="utf-8")
    assert wrong == []
    tab.context.close()


@in_browser
@pytest.mark.parametrize(("source", "heard"), [("Microphone", {"voice"}), ("Camera", {"voice"})])
def test_what_the_browser_records_is_played_and_scored(browser, address, source, heard):
    """Chrome's recordings say no duration; the fake camera shows no face, the fake microphone a tone."""
    tab, wrong = opened(browser, address)
    tab.get_by_role("button", name=source).click()
    tab.wait_for_timeout(1600)
    tab.get_by_role("button", name="Stop").click()
    until(tab, "/^Recorded/.test(document.getElementById('status').textContent)")
    until(tab, "isFinite(document.getElementById('player').duration)")
    tab.get_by_role("button", name="Score").first.click()
    assert scored(tab).startswith("Done")
    assert heard <= set(tab.text_content("#details tr:has(th:text-is('From')) td").split(", "))
    assert wrong == []
    tab.context.close()


@in_browser
def test_what_is_said_live_is_answered_while_it_is_said(browser, address, door, monkeypatch):
    """The fake microphone's tone counts as a voice by its loudness; the first answer comes before the end."""
    monkeypatch.setattr(live_routes, "_hearing", energy)
    tab, wrong = opened(browser, address)
    tab.get_by_role("button", name="Live").click()
    until(tab, "document.querySelectorAll('[role=group][aria-label=answer] .span').length")
    assert "behind" in tab.text_content("#status")
    assert tab.get_by_role("button", name="Score").first.is_disabled()
    tab.get_by_role("button", name="Stop").click()
    until(tab, "/^Live session ended/.test(document.getElementById('status').textContent)")
    assert tab.locator("[role=group][aria-label=voice] .span").first.get_attribute("class") == "span"
    assert "voice" in tab.text_content("#details tr:has(th:text-is('From')) td")
    until(tab, "isFinite(document.getElementById('player').duration)")  # what was said can be heard
    with tab.expect_download() as saved:
        tab.get_by_role("button", name="JSON").click()
    assert '"recording": "live"' in Path(saved.value.path()).read_text(encoding="utf-8")
    assert door.app.state.engine.live == 0
    assert wrong == []
    tab.context.close()


@in_browser
def test_a_recording_of_two_people_becomes_a_timeline(browser, address, door, monkeypatch):
    """Where they speak is given here, as a caller's `spans` would; finding it has tests of its own."""
    from demeanor.server import job_routes

    spans = '[{"start": 0.1, "end": 0.9, "speaker": "A"}, {"start": 1.0, "end": 1.5, "speaker": "B"}]'
    tab, wrong = opened(browser, address)
    tab.set_input_files("#file", CLIPS[0])
    tab.get_by_role("checkbox", name="find who speaks when").check()
    assert "/v1/timeline" in tab.text_content("#curl")
    monkeypatch.setattr(job_routes, "options_of", lambda form: {"spans": job_routes.spans_of(spans)})
    tab.get_by_role("button", name="Score").first.click()
    assert scored(tab).startswith("Done")
    assert tab.locator("[role=group][aria-label='A, answer'] .span").count() == 1
    assert tab.locator("[role=group][aria-label='B, answer'] .span").count() == 1
    assert "through voice" in tab.text_content("#details")
    for name, begins in (("WebVTT", "WEBVTT"), ("CSV", "#"), ("ELAN (EAF)", "<?xml")):
        with tab.expect_download() as saved:
            tab.get_by_role("button", name=name).click()
        assert Path(saved.value.path()).read_text(encoding="utf-8").startswith(begins)
    assert wrong == []
    tab.context.close()
    for job in list(door.app.state.jobs._jobs.values()):
        on_loop(door, door.app.state.jobs.remove, job)


@in_browser
def test_a_recording_as_safari_makes_it(browser, address, tmp_path):
    path = tmp_path / "safari.mp4"
    path.write_bytes(fragmented_mp4(2.0))
    tab, _ = opened(browser, address)
    tab.set_input_files("#file", path)
    tab.get_by_role("button", name="Score").first.click()
    assert scored(tab).startswith("Done")
    assert "voice" in tab.text_content("#details")
    tab.context.close()


def fragmented_mp4(seconds: float, rate: int = 48_000) -> bytes:
    """Sound and picture in fragments, with a header that knows nothing of them, as a phone streams to a page."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}) as film:
        picture, voice = film.add_stream("h264", rate=15), film.add_stream("aac", rate=rate)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        for number in range(int(15 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * number, dtype=np.uint8), format="rgb24")
            film.mux(picture.encode(frame))
        for start in range(0, int(rate * seconds), 1024):
            samples = (0.2 * np.sin(np.arange(start, start + 1024) * 0.03)).astype(np.float32)[None, :]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            film.mux(voice.encode(frame))
        film.mux(picture.encode())
        film.mux(voice.encode())
    return held.getvalue()


def test_the_page_may_run_what_is_in_it_and_nothing_else(door):
    served = door.get("/")
    policy = served.headers["content-security-policy"]
    assert policy.count("sha256-") == 2
    assert "unsafe" not in policy
    content, _ = page()
    assert served.content == content
    assert not re.findall(rb"(?:src|href)=\"(?:https?:)?//", content)
