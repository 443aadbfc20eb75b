"""What CI asks of the tests beyond passing: that none is skipped for want of a thing, and a part of the slow ones.

A skip fails where the environment has CI=true, unless it goes through `cannot_have`. So a machine without a browser,
MediaPipe or the photographs of ../shared/data cannot pass by leaving out the tests that need them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

CANNOT_HAVE = "this machine cannot have it: "


def cannot_have(reason: str) -> NoReturn:
    """Skips a test in CI, too, for a thing that cannot be installed: another processor, rights, another system."""
    pytest.skip(CANNOT_HAVE + reason)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    assert isinstance(report.longrepr, tuple)  # path, line, reason
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if not reason.startswith(CANNOT_HAVE):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} is skipped, and CI=true allows no skip for what can be had: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _refuse_skip(report)
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", metavar="K/N", help="run every Nth of the selected tests, from the Kth on (0 first)")


@pytest.hookimpl(trylast=True)  # after -m has selected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    part = config.getoption("--part")
    if not part:
        return
    number, parts = _part(part)
    # The cases of one test stay together: they share what is costly to make.
    tests = {test: index for index, test in enumerate(dict.fromkeys(map(_test_of, items)))}
    kept = [item for item in items if tests[_test_of(item)] % parts == number]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and int(number) < int(parts)):
        raise pytest.UsageError(f"--part={text} must be K/N with K from 0 to N - 1, such as 0/6")
    return int(number), int(parts)


def _test_of(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]
