"""Executors of a cluster, for tests, with the sample handlers."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasktrail import __version__
from tasktrail.actors.cluster.cluster_executor import ClusterExecutor
from tasktrail.actors.cluster.gateway_process import GatewayProcess
from tasktrail.actors.cluster.wire import HostSettings

if TYPE_CHECKING:
    from tasktrail.handlers.registry import Registry

SUPPORT = Path(__file__).parent


def host_settings(registry: Registry, *, cluster: str = "", lease: float = 10.0) -> HostSettings:
    """What hosts are made with that run the handlers of this folder."""
    return HostSettings(
        version=__version__,
        cluster=cluster or secrets.token_hex(8),
        lease=lease,
        homes=registry.homes(),
        pythonpath=(str(SUPPORT),),
    )


def on_cluster(link: Any, registry: Registry, *, slots: int = 1, epoch: int = 1, **options: Any) -> ClusterExecutor:
    """An executor on whatever the link leads to."""
    named = {name: options.pop(name) for name in ("cluster", "lease") if name in options}
    return ClusterExecutor(link, slots=slots, settings=host_settings(registry, **named), epoch=epoch, **options)


def on_ray(address: str, registry: Registry, **options: Any) -> ClusterExecutor:
    """An executor on Ray."""
    return on_cluster(lambda *thread: GatewayProcess(address, None, *thread), registry, **options)
