"""Metrics: Prometheus text format 0.0.4."""

from __future__ import annotations

import re

from atoll.runtime.metrics import BUCKETS, Metrics, render

LINE = re.compile(r'[a-z_]+(\{[a-z]+="[^"\\\n]*"(,[a-z]+="[^"\\\n]*")*\})? [0-9.e+-]+')


def test_every_line_is_well_formed_and_each_series_has_its_type_once() -> None:
    metrics = Metrics()
    metrics.count("sent_total", protocol="imap")
    metrics.count("sent_total", 2, protocol="pop3")
    metrics.gauge("open", lambda: 4.5)
    metrics.observe("commit_seconds", 0.003)
    metrics.observe("commit_seconds", 99)
    text = render([("mailbox-1", metrics.snapshot()), ("mailbox-2", metrics.snapshot())])
    types = [line for line in text.splitlines() if line.startswith("#")]
    assert len(types) == len(set(types)) == 3
    assert all(LINE.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))
    assert 'atoll_sent_total{protocol="pop3",role="mailbox-2"} 2' in text


def test_buckets_are_cumulative() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.003, 0.003, 99.0):
        metrics.observe("x_seconds", seconds)
    lines = render([("r", metrics.snapshot())]).splitlines()
    counts = [int(line.rpartition(" ")[2]) for line in lines if "_bucket" in line]
    assert len(counts) == len(BUCKETS) + 1
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, 4)
    assert 'atoll_x_seconds_count{role="r"} 4' in lines


def test_the_process_is_watched() -> None:
    metrics = Metrics()
    metrics.watch_process()
    values = {name: value for _, name, _, value in metrics.snapshot()}
    assert values["process_resident_bytes"] > 1 << 20
    assert values["process_open_descriptors"] >= 3
