"""The executor on a cluster, as the configuration asks for it."""

from collections.abc import Callable
from importlib.util import find_spec

from .. import __version__
from ..actors.cluster.cluster_executor import ClusterExecutor
from ..actors.cluster.gateway_process import ConnectingGateway, GatewayProcess
from ..actors.cluster.placement import HostNeeds
from ..actors.cluster.wire import HostSettings
from ..events.errors import ConfigurationError
from ..handlers.manifests import Claims
from ..paths import DataPaths
from .settings import Config, parse_limits


def check_cluster(config: Config) -> None:
    """Raise ConfigurationError if no attempt could ever run on the cluster."""
    if not config.ray_address:
        raise ConfigurationError(
            "`executor` is `ray`, and no cluster is named",
            field="ray_address",
            remedy="Set `ray_address` to HOST:PORT of the cluster's head. It is never guessed.",
        )
    if find_spec("ray") is None:
        raise ConfigurationError(
            "`executor` is `ray`, and Ray is not installed",
            field="executor",
            remedy="Install tasktrail[ray], here and on each node, with the same version of Python.",
        )


def cluster_executor(
    config: Config,
    paths: DataPaths,
    *,
    homes: dict[str, str],
    pythonpath: tuple[str, ...],
    cluster: str,
    epoch: Callable[[], int],
    owned: Callable[[], float] | None,
    restored: bool,
    claims: Claims | None,
    connecting: ConnectingGateway | None,
) -> ClusterExecutor:
    """Make the executor for a cluster. It is not open yet.

    Args:
        config: says where the cluster is, and what workers book.
        paths: the data folder's. Nodes have to see what attempts read and write there.
        homes: task type → `module:attribute`.
        pythonpath: folders that nodes import these modules from, besides their own.
        cluster: names the service's log among those that use the cluster.
        epoch: returns this service's epoch; 0: its log is not open yet.
        owned: returns how many seconds ago this service surely owned the log; None: it owns the log while it lives.
        restored: whether the log was put back to an earlier state.
        claims: the certificate and key that sign manifests of outputs.
        connecting: the first process with Ray's client, if it was started before.
    """
    cores = max(1, int(config.ray_cpus))
    settings = HostSettings(
        version=__version__,
        cluster=cluster,
        lease=config.ray_lease,
        homes=homes,
        pythonpath=pythonpath,
        # Ray names in the first one the GPUs that the worker has booked.
        pass_environment=("CUDA_VISIBLE_DEVICES", *config.pass_environment),
        nice=config.worker_nice,
        io=config.worker_io,
        cores=min(cores, config.max_cores or cores),
        memory=config.ray_memory // 2,
        sandbox=config.for_workers(paths.protected(), cluster),
        temp_root=str(paths.temp),
        output_root=str(paths.output) if config.max_output else "",
        max_output=config.max_output,
        hash_up_to=config.hash_inputs_up_to,
        claims=claims,
    )
    return ClusterExecutor(
        lambda reactor, lock: GatewayProcess(config.ray_address, paths.workers_lock, reactor, lock, connecting),
        slots=config.workers,
        settings=settings,
        epoch=epoch,
        owned=owned,
        restored=restored,
        needs=HostNeeds(
            cpus=config.ray_cpus,
            memory=config.ray_memory,
            gpus=config.ray_gpus,
            resources={name: float(number) for name, number in parse_limits(config.ray_resources).items()},
        ),
        labels=parse_limits(config.worker_labels),
        roster=paths.hosts,
    )
