"""The plugin of pytest that comes with the wheel: fixtures for a portal and a deployment.

Every run of pytest in an environment with the wheel loads this module, so it imports nothing until a fixture is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b24offline.testing import Deployment, EmulatedPortal

INI = "b24_pipelines"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting that names the modules of pipelines."""
    parser.addini(INI, "Modules of pipelines that b24_deployment loads, separated by commas.", default="")


@pytest.fixture(scope="module")
def b24_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of the deployment, as environment variables. Override it for others, in a module or a conftest."""
    named = str(request.config.getini(INI)) or os.environ.get("B24_PIPELINES", "")
    return {"B24_PIPELINES": named} if named else {}


@pytest.fixture(scope="module")
def _b24_portal_of_module(b24_settings: dict[str, str]) -> Iterator[EmulatedPortal]:
    from b24offline.emulator import EmulatorProcess  # noqa: PLC0415 - only where the fixture is used
    from b24offline.testing import EmulatedPortal  # noqa: PLC0415

    del b24_settings  # with other settings, another portal: the one before knows another deployment's tokens
    with EmulatorProcess() as process:
        yield EmulatedPortal(process)


@pytest.fixture(scope="module")
def _b24_deployment_of_module(
    b24_settings: dict[str, str], _b24_portal_of_module: EmulatedPortal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    from b24offline.supervisor import EmbeddedValkey  # noqa: PLC0415
    from b24offline.testing import Deployment  # noqa: PLC0415

    if not b24_settings.get("B24_PIPELINES"):
        pytest.fail(f"Name your pipelines for the deployment: {INI} = my_pipelines in the settings of pytest.")
    folder = tmp_path_factory.mktemp("b24")
    with (
        EmbeddedValkey(folder / "valkey") as valkey,
        Deployment(_b24_portal_of_module, folder, valkey.url, settings=b24_settings) as deployment,
    ):
        yield deployment


@pytest.fixture
def b24_portal(_b24_portal_of_module: EmulatedPortal) -> EmulatedPortal:
    """An emulated portal, shared by the tests of a module; faults of the test before are gone."""
    _b24_portal_of_module.begin()
    return _b24_portal_of_module


@pytest.fixture
def b24_deployment(_b24_deployment_of_module: Deployment, b24_portal: EmulatedPortal) -> Deployment:
    """A worker and beat that serve `b24_portal` with your pipelines, shared by the tests of a module."""
    del b24_portal
    return _b24_deployment_of_module
