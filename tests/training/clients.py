"""Stand-ins for the clients of tracking services: what the package calls of wandb 0.31.0 and mlflow-skinny 3.17.2.

Their signatures are those of the clients, without the arguments that the package does not give.
"""

import dataclasses
import importlib.machinery
import types


@dataclasses.dataclass
class Service:
    """What a service holds: runs by identifier, in the order in which they were made.

    Attributes:
        down: whether it refuses everything.
    """

    runs: dict = dataclasses.field(default_factory=dict)
    down: bool = False


def _module(name, **content):
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__dict__.update(content)
    return module


def wandb(service):
    """The client of Weights & Biases, online: a step that is not after the last one is dropped."""

    class Error(Exception):
        pass

    class UsageError(Error):
        pass

    class Run:
        def __init__(self, id):
            self.id = id
            self.rows = service.runs[id]["rows"]
            self.step = max(self.rows, default=-1) + 1

        def log(self, data, step=None):
            if service.down:
                raise Error("cannot connect")
            if step >= self.step:
                self.rows[step], self.step = data, step + 1

        def finish(self, exit_code=None):
            service.runs[self.id]["ends"].append("FINISHED" if exit_code == 0 else "FAILED")

    def init(*, project, name, id, resume, reinit, dir, config):
        assert (resume, reinit) == ("allow", "create_new")
        if service.down:
            raise UsageError("No API key configured. Use `wandb login` to log in.")
        service.runs.setdefault(id, {"name": name, "config": config, "rows": {}, "ends": [], "project": project})
        return Run(id)

    return _module("wandb", init=init, errors=types.SimpleNamespace(Error=Error))


def mlflow(service):
    """The client of MLflow, with one store."""
    active = []

    class MlflowException(Exception):
        pass

    def check():
        if service.down:
            raise MlflowException("cannot connect\nto the server")

    def start_run(run_id=None, run_name=None, nested=False):
        check()
        assert nested == bool(active)
        run_id = run_id or f"run{len(service.runs)}"
        service.runs.setdefault(run_id, {"name": run_name, "config": {}, "rows": {}, "ends": []})
        active.append(run_id)
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id))

    def log_metrics(metrics, step=None, run_id=None):
        check()
        rows = service.runs[run_id]["rows"]
        assert step not in rows, "MLflow keeps repeated rows"
        rows[step] = metrics

    class MlflowClient:
        def get_metric_history(self, run_id, key):
            rows = service.runs[run_id]["rows"]
            return [types.SimpleNamespace(step=step, value=row[key]) for step, row in rows.items()]

    return _module(
        "mlflow",
        start_run=start_run,
        active_run=lambda: active[-1] if active else None,
        log_params=lambda params: service.runs[active[-1]]["config"].update(params),
        log_metrics=log_metrics,
        end_run=lambda status="FINISHED": service.runs[active.pop()]["ends"].append(status),
        get_tracking_uri=lambda: "sqlite:////store/mlflow.db",
        set_tracking_uri=lambda uri: None,
        MlflowClient=MlflowClient,
        exceptions=types.SimpleNamespace(MlflowException=MlflowException),
    )
