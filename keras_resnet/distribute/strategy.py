"""Distribution strategies: make a `tf.distribute.Strategy` from a flag and the environment."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_resnet.distribute import collectives, multi_worker
from keras_resnet.errors import InputError, check_choice

STRATEGIES = ("auto", "one", "mirrored", "multi_worker", "tpu")
"""Names that `make` accepts."""

HEARTBEAT_SECONDS = 20
"""Seconds of silence after which a worker counts as lost; a broken connection is noticed at once."""


def make(name: str = "auto", *, replicas: int = 0, timeout: float = 120.0) -> tf.distribute.Strategy:
    """Make a strategy; with several workers or a divided CPU, before any other use of TensorFlow.

    Args:
        name: one of `STRATEGIES`:
            * "one": the first GPU, or the CPU;
            * "mirrored": the GPUs of this machine;
            * "multi_worker": several processes, on one machine or many, given by `TF_CONFIG`, by Slurm's environment,
              or by Kubernetes if `KERAS_RESNET_PODS` names the pods; see `cluster`;
            * "tpu": the TPU that `TPU_NAME` names, or that of this machine;
            * "auto": what the environment describes: a TPU, several workers, several GPUs, or else one device.
        replicas: devices of this machine for "mirrored"; 0 for all GPUs. Without a GPU, the CPU is divided into this
            many logical devices, which is useful only for tests.
        timeout: seconds to wait for other workers at the start.

    Returns:
        The strategy; for one device, `tf.distribute.get_strategy()`.

    Raises:
        ValueError: an unknown name, an environment that does not fit it, a worker that cannot be reached in time, fewer
            GPUs than requested, or no TPU.
    """
    check_choice("strategy", name, STRATEGIES)
    if replicas > 1 and name in ("one", "multi_worker", "tpu"):
        raise InputError(f"replicas require strategy 'mirrored' or 'auto'; got {replicas} with {name!r}.")
    if name == "auto":
        name = _detected(replicas)
    if name == "tpu":
        return _tpu()
    if name == "multi_worker":
        workers = cluster(timeout)
        if len(workers.addresses) > 1:
            return _multi_worker(workers, timeout)
        name = "mirrored"  # a cluster of one is this machine
    return tf.distribute.get_strategy() if name == "one" else _mirrored(replicas)


def describe(strategy: tf.distribute.Strategy, batch_size: int) -> str:
    """Describe the hardware of a run and how its batches are shared, in one line.

    Raises:
        ValueError: the batch cannot be divided.
    """
    part, replicas = per_replica(strategy, batch_size), strategy.num_replicas_in_sync
    if isinstance(strategy, tf.distribute.TPUStrategy):
        device = "TPU"
    else:
        device = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    if replicas == 1:
        return f"1 {device}"
    count = collectives.count(strategy)
    workers = f" of {count} workers" if count > 1 else ""
    return (
        f"{replicas} replicas ({device}){workers}, {part} of the {batch_size} images of a batch on each; "
        "the learning rate is for the whole batch and is not scaled"
    )


def per_replica(strategy: tf.distribute.Strategy, batch_size: int, accumulate: int = 1) -> int:
    """Return the number of images of a batch, or of each of its micro-batches, on each replica.

    Args:
        strategy: strategy of the run.
        batch_size: images in a batch.
        accumulate: micro-batches in a batch.

    Raises:
        ValueError: the batch cannot be divided.
    """
    part, rest = divmod(batch_size, strategy.num_replicas_in_sync * accumulate)
    if rest or not part:
        times = f" times accumulate, {accumulate}" if accumulate > 1 else ""
        raise InputError(
            f"batch_size must be a multiple of the {strategy.num_replicas_in_sync} replicas{times}; got {batch_size}."
        )
    return part


def distributed(strategy: tf.distribute.Strategy, batches: Callable[..., tf.data.Dataset], batch_size: int) -> Any:
    """Share endless batches among all replicas; each gets consecutive images of a batch.

    Args:
        strategy: strategy of the run.
        batches: function of `context`, a `tf.distribute.InputContext` or None, that returns a worker's part of the
            batches.
        batch_size: images in a batch over all workers.

    Returns:
        A `tf.data.Dataset` for one replica, otherwise a `tf.distribute.DistributedDataset`, for `model.fit`.

    Raises:
        ValueError: the batch cannot be divided.
    """
    part = per_replica(strategy, batch_size)
    if strategy.num_replicas_in_sync == 1:
        return batches(context=None)

    def worker_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        dataset = batches(context=context)
        if strategy.num_replicas_in_sync > context.num_input_pipelines:
            dataset = dataset.rebatch(part, drop_remainder=True)
        # Otherwise the workers ask each other at each step whether all have a batch.
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    return strategy.distribute_datasets_from_function(worker_batches)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run.

    Attributes:
        addresses: "host:port" of each worker, the chief's first.
        index: index of this process among them.
        source: name of the source of this information, for error messages.
    """

    addresses: tuple[str, ...]
    index: int
    source: str

    def __post_init__(self) -> None:
        for address in self.addresses:
            host, _, port = str(address).rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise InputError(f"{self.source} must have addresses such as 'host:2222'; got {address!r}.")
        if len(set(self.addresses)) < len(self.addresses):
            raise InputError(f"{self.source} must contain each worker once; got {', '.join(self.addresses)}.")
        if not 0 <= self.index < len(self.addresses):
            raise InputError(
                f"{self.source} must give this worker an index from 0 to {len(self.addresses) - 1}; got {self.index}."
            )


def cluster(timeout: float = 120.0) -> Cluster:
    """Find the workers in the environment: `TF_CONFIG`, a Slurm step of several tasks, or pods of Kubernetes.

    For Kubernetes, `KERAS_RESNET_PODS` is a label selector of the pods, such as "job-name=resnet50",
    `KERAS_RESNET_WORKERS` the number of pods, and `KERAS_RESNET_HOST_IP` the address of this pod's host
    (`status.hostIP`), whose network the pods share.

    Args:
        timeout: seconds to wait until all pods run.

    Raises:
        ValueError: the environment describes no workers, or is inconsistent.
    """
    if os.environ.get("TF_CONFIG"):
        return _from_tf_config(os.environ["TF_CONFIG"])
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return _from_slurm()
    if os.environ.get("KERAS_RESNET_PODS"):
        return _from_kubernetes(timeout)
    raise InputError(
        "strategy 'multi_worker' requires TF_CONFIG, a Slurm step of several tasks or KERAS_RESNET_PODS in the "
        "environment; on one machine run: keras-resnet launch --workers=2 train ..."
    )


def _from_tf_config(text: str) -> Cluster:
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        values = json.loads(text)
        jobs, kind, index = values["cluster"], values["task"]["type"], int(values["task"]["index"])
        chiefs, others = list(jobs.get("chief", [])), list(jobs.get("worker", []))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"TF_CONFIG must be JSON such as {example}; got {text!r} ({reason}).") from error
    if strange := sorted({*jobs, kind} - {"chief", "worker"}):
        raise InputError(f"TF_CONFIG must have no other jobs than chief and worker; got {strange}.")
    if kind not in jobs or not 0 <= index < len(jobs[kind]):
        raise InputError(f"TF_CONFIG must have its task in its cluster; got {kind} {index} of {jobs}.")
    return Cluster((*chiefs, *others), index + (len(chiefs) if kind == "worker" else 0), "TF_CONFIG")


def _from_slurm() -> Cluster:
    # The port depends on the job, so that two jobs on one machine do not collide. The large number of GPUs makes the
    # resolver leave them alone; Slurm shows each task its own GPUs.
    port = 10_000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 20_000
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=port, gpus_per_node=1 << 16, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = resolver.cluster_spec().as_dict()["worker"]
        return Cluster(tuple(addresses), int(os.environ["SLURM_PROCID"]), "Slurm's environment")
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"Slurm's environment must be that of a step started by srun: {error}.") from error


def _from_kubernetes(timeout: float) -> Cluster:
    try:
        from kubernetes import client, config  # optional
    except ImportError as error:
        raise InputError("KERAS_RESNET_PODS requires the package kubernetes: pip install kubernetes.") from error
    selector, names = os.environ["KERAS_RESNET_PODS"], ("KERAS_RESNET_WORKERS", "KERAS_RESNET_HOST_IP")
    for name in names:
        if not os.environ.get(name):
            raise InputError(f"{name} must be set if KERAS_RESNET_PODS is; it is not.")
    host = os.environ[names[1]]
    try:
        expected = int(os.environ[names[0]])
    except ValueError:
        raise InputError(f"{names[0]} must be an integer; got {os.environ[names[0]]!r}.") from None
    try:
        config.load_incluster_config()
    except config.ConfigException as error:
        raise InputError(f"KERAS_RESNET_PODS requires a process in a pod of Kubernetes: {error}.") from error
    resolver = tf.distribute.cluster_resolver.KubernetesClusterResolver(
        {"worker": [selector]}, tf_server_port=2222, override_client=client.CoreV1Api()
    )
    deadline = time.monotonic() + timeout
    while True:
        try:
            addresses, reason = resolver.cluster_spec().as_dict().get("worker", []), ""
        except RuntimeError as error:
            addresses, reason = [], f" ({error})"
        except client.ApiException as error:
            raise InputError(
                f"the pods of {selector!r} cannot be listed; the pod's service account must have permission to: "
                f"{error.status} {error.reason}."
            ) from error
        if len(addresses) == expected:
            break
        if time.monotonic() > deadline:
            raise InputError(
                f"{expected} pods of {selector!r} must run within {timeout:g} s; {len(addresses)} do{reason}."
            )
        time.sleep(1)
    if f"{host}:2222" not in addresses:
        raise InputError(f"KERAS_RESNET_HOST_IP must be among the pods' hosts, {', '.join(addresses)}; got {host!r}.")
    return Cluster(tuple(addresses), addresses.index(f"{host}:2222"), "Kubernetes")


def _detected(replicas: int) -> str:
    """Return the name of the strategy that "auto" stands for."""
    if os.environ.get("TPU_NAME"):
        return "tpu"
    workers_named = ("TF_CONFIG", "KERAS_RESNET_PODS")
    if any(os.environ.get(name) for name in workers_named) or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return "multi_worker"
    return "mirrored" if (replicas or len(tf.config.list_physical_devices("GPU"))) > 1 else "one"


def _mirrored(replicas: int) -> tf.distribute.Strategy:
    gpus = tf.config.list_physical_devices("GPU")
    if replicas > len(gpus) > 0:
        raise InputError(f"replicas must be at most the {len(gpus)} GPUs of this machine; got {replicas}.")
    replicas = replicas or len(gpus) or 1
    if replicas == 1:
        return tf.distribute.get_strategy()
    if not gpus and replicas > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
        except RuntimeError as error:
            if len(tf.config.list_logical_devices("CPU")) < replicas:
                raise InputError(
                    f"replicas cannot divide the CPU once TensorFlow is in use; got {replicas}."
                ) from error
    kind = "GPU" if gpus else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(replicas)])


def _multi_worker(workers: Cluster, timeout: float) -> tf.distribute.Strategy:
    gpus = len(tf.config.list_physical_devices("GPU"))
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(workers.addresses)}),
        task_type="worker",
        task_id=workers.index,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
    _wait_for_workers(workers, timeout)
    _limit_silence(len(workers.addresses), timeout)
    try:
        return multi_worker.strategy(resolver)
    except tf.errors.OpError as error:
        addresses, reason = ", ".join(workers.addresses), error.message.splitlines()[0]
        raise InputError(f"the workers {addresses} did not connect within {timeout:g} s: {reason}.") from error


def _wait_for_workers(workers: Cluster, timeout: float) -> None:
    """Wait until every worker accepts a connection at its address.

    TensorFlow waits for missing workers in a call that cannot be interrupted, and does not name them. Until its server
    takes the port, a plain server listens there.

    Raises:
        ValueError: a worker cannot be reached in time, or the port of this one is not free.
    """
    own_address = workers.addresses[workers.index]
    port = _host_and_port(own_address)[1]
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=family == socket.AF_INET6)
    except OSError as error:
        raise InputError(
            f"worker {workers.index} cannot listen at its address, {own_address}: {error.strerror}."
        ) from error
    deadline = time.monotonic() + timeout
    missing = {number: "" for number in range(len(workers.addresses)) if number != workers.index}
    with server:
        while missing:
            for number in list(missing):
                try:
                    socket.create_connection(_host_and_port(workers.addresses[number]), timeout=5).close()
                    del missing[number]
                except OSError as error:
                    missing[number] = error.strerror or str(error)
            if missing and time.monotonic() > deadline:
                names = (f"worker {number} at {workers.addresses[number]} ({why})" for number, why in missing.items())
                raise InputError(
                    f"{' and '.join(names)} cannot be reached by worker {workers.index} within {timeout:g} s."
                )
            time.sleep(0.1)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _limit_silence(count: int, timeout: float) -> None:
    """Limit the waiting times of TensorFlow's coordination service, which by default waits an hour for workers."""
    # Modules of TensorFlow without a stable path, which only this function requires.
    from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
    from tensorflow.python.eager import context

    # MultiWorkerMirroredStrategy makes the same call, without limits, unless it has been made before.
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        cluster_register_timeout_in_ms=round(1000 * timeout),
        heartbeat_timeout_in_ms=1000 * HEARTBEAT_SECONDS,
        shutdown_barrier_timeout_in_ms=1000 * HEARTBEAT_SECONDS,
        coordinated_jobs=[CoordinatedJob(name="worker", num_tasks=count)],
    )


def _tpu() -> tf.distribute.Strategy:
    name = os.environ.get("TPU_NAME") or "local"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (tf.errors.OpError, ImportError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"strategy 'tpu' requires a TPU, local or named by TPU_NAME; {name!r} is none: {reason}"
        ) from error
