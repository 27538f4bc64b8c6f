"""Reports on their way to a tracking server that is slow, refuses, dies, or comes back."""

from __future__ import annotations

import errno
import logging
import threading
from pathlib import Path

import pytest

from demeanor import outbox
from demeanor.outbox import Event, Outbox, Refused, hand_over


class Server:
    """Takes events while `alive`; `asleep` holds the sending thread until it is set."""

    def __init__(self) -> None:
        self.alive, self.taken, self.refused = True, [], set()
        self.asleep = threading.Event()
        self.asleep.set()

    def send(self, event: Event) -> None:
        self.asleep.wait()
        if not self.alive:
            raise ConnectionError("connection refused")
        if event["kind"] in self.refused:
            raise Refused("no such kind")
        content = Path(event["path"]).joinpath("card.json").read_text() if "path" in event else None
        self.taken.append((event["kind"], event.get("step"), content))

    def answers(self) -> bool:
        return self.alive

    def header(self) -> dict:
        return {"ids": {"here": "there"}}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outbox.time, "sleep", lambda seconds: None)


def metrics(*steps: int) -> list[Event]:
    return [{"kind": "metrics", "run": "here", "step": step, "values": {"loss": 1.0 / step}} for step in steps]


def test_everything_arrives_in_its_order_and_nothing_is_left_on_disk(tmp_path: Path):
    server = Server()
    box = Outbox(server, tmp_path / "kept", "http://server")
    for event in metrics(*range(1, 50)):
        box.put(event)
    assert box.close()
    assert [step for _, step, _ in server.taken] == list(range(1, 50))
    assert not (tmp_path / "kept").exists()


def test_a_dead_server_stops_nobody_and_later_gets_everything(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    server = Server()
    box = Outbox(server, tmp_path / "kept", "http://server")
    first, *rest = metrics(1, 2, 3)
    box.put(first)
    while not server.taken:
        threading.Event().wait(0.01)
    server.alive = False
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "card.json").write_text("weights")
    for event in rest:
        box.put(event)
    box.put({"kind": "files", "run": "here", "path": box.hold(bundle), "place": "bundle"})
    (bundle / "card.json").unlink()  # the owner's copy goes as soon as it is held
    with caplog.at_level(logging.WARNING):
        assert not box.close()
    assert sum("does not answer" in record.message for record in caplog.records) <= 1
    assert f"demeanor send-tracking {tmp_path / 'kept'}" in caplog.text
    assert [step for _, step, _ in server.taken] == [1]
    with pytest.raises(ConnectionError):
        hand_over(tmp_path / "kept", server)
    server.alive = True
    assert hand_over(tmp_path / "kept", server) == 3
    assert server.taken == [
        ("metrics", 1, None),
        ("metrics", 2, None),
        ("metrics", 3, None),
        ("files", None, "weights"),
    ]
    assert not (tmp_path / "kept").exists()


def test_a_server_that_is_back_at_the_end_has_lost_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    server = Server()
    server.alive = False
    box = Outbox(server, tmp_path / "kept", "http://server")
    for event in metrics(1, 2):
        box.put(event)
    box._thread.join(5)
    server.alive = True
    box.put(metrics(3)[0])
    assert box.close()
    assert [step for _, step, _ in server.taken] == [1, 2, 3]
    assert "answers again" in caplog.text
    assert not (tmp_path / "kept").exists()


def test_what_was_handed_over_is_not_handed_over_twice(tmp_path: Path):
    server = Server()
    server.alive = False
    box = Outbox(server, tmp_path / "kept", "http://server")
    for event in metrics(1, 2, 3):
        box.put(event)
    assert not box.close()

    class Dies(Server):
        def send(self, event: Event) -> None:
            self.alive = len(self.taken) < 2
            super().send(event)

    dying = Dies()
    with pytest.raises(ConnectionError):
        hand_over(tmp_path / "kept", dying)
    again = Server()
    hand_over(tmp_path / "kept", again)
    assert [step for _, step, _ in dying.taken + again.taken] == [1, 2, 3]


def test_a_server_slower_than_the_run_fills_the_disk_instead_of_the_memory(tmp_path: Path):
    server = Server()
    server.asleep.clear()
    box = Outbox(server, tmp_path / "kept", "http://server", limit=5)
    for event in metrics(*range(1, 21)):
        box.put(event)  # returns although nothing can be sent
    assert len(box._events) <= 5
    server.asleep.set()
    assert box.close()  # it answers by now
    assert {step for _, step, _ in server.taken} == set(range(1, 21))


def test_the_end_of_a_run_waits_for_a_stuck_server_for_a_bounded_time(tmp_path: Path):
    server = Server()
    server.asleep.clear()
    server.answers = lambda: False  # type: ignore[method-assign]
    box = Outbox(server, tmp_path / "kept", "http://server")
    for event in metrics(1, 2):
        box.put(event)
    assert not box.close(patience=0.3)
    assert len((tmp_path / "kept" / outbox.EVENTS).read_text().splitlines()) == 2
    server.asleep.set()


def test_what_a_server_declines_is_told_and_the_rest_arrives(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    server = Server()
    server.refused = {"tags"}
    box = Outbox(server, tmp_path / "kept", "http://server")
    box.put({"kind": "tags", "run": "here", "values": {}})
    box.put(metrics(1)[0])
    assert box.close()
    assert server.taken == [("metrics", 1, None)]
    assert "does not take tags of this run: no such kind" in caplog.text


def test_neither_server_nor_disk_is_no_reason_to_fail(tmp_path: Path, monkeypatch, caplog: pytest.LogCaptureFixture):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(outbox, "keep", full)
    server = Server()
    server.alive = False
    box = Outbox(server, tmp_path / "kept", "http://server")
    for event in metrics(1, 2, 3):
        box.put(event)
    assert not box.close()
    assert caplog.text.count("is lost from here on") == 1
    assert "the disk is full" in caplog.text
