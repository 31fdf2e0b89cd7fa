"""One server and one browser for all tests here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .harness import FLAGS, Server, chromium


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser, a server and a compute process on two busy cores: what fails here is tried once more, and said so."""
    for item in items:
        if "browser" in item.keywords and item.path.parent.name == "browser":
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def server(tmp_path_factory, runs_folder) -> Iterator[Server]:
    made = Server("app.py", tmp_path_factory.mktemp("server") / "log")
    yield made
    made.close()


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable]:
    """Starts a browser with more flags than the usual."""
    path = chromium()
    if not path:
        pytest.skip("Chromium is not here; install Debian's package chromium, or set CAKE_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])


@pytest.fixture(scope="session")
def browser(launch):
    made = launch()
    yield made
    made.close()
