"""What Snakemake's log events mean to Prefect: states of task runs, log lines, artifacts, and how the run ended.

Nothing here knows of a server; :mod:`sender` does.
"""

import logging
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

EVENT, LOG, ARTIFACT = "event", "log", "artifact"
MAX_PARENTS = 500  # a job that joins more gets an arrow from the first so many
LOG_LINES = 60  # of the log of a job that failed

Message = namedtuple("Message", "kind body")
"""Something to send: ``body`` is a function of the id of the flow run that gives a dict of JSON values."""


Change = namedtuple("Change", "id type name message moment attempt started")
"""A new state of a task run, as it was at that moment."""


@dataclass
class Task:
    """One job: what Snakemake said of it, and the task run it is."""

    job: object
    name: str
    rule: str
    inputs: tuple
    outputs: tuple
    logs: tuple
    parents: tuple
    id: UUID = field(default_factory=uuid4)
    attempt: int = 1
    state: str = "RUNNING"
    started: datetime = None


class Story:
    """Turns log records of one run into messages.

    Parameters
    ----------
    now : function, optional
        Gives the time.
    """

    def __init__(self, now=lambda: datetime.now(UTC)):
        self.now = now
        self.tasks = {}
        self.makers = {}
        self.errors = []
        self.total = 0

    def handle(self, record):
        """Messages that follow from one log record."""
        event = str(getattr(record, "event", None) or "")
        act = getattr(self, f"_on_{event}", None)
        if act is not None:
            return act(record)
        if not event and record.levelno >= logging.WARNING and record.msg:
            return [self._log(record.getMessage(), record.levelno)]
        return []

    def finish(self):
        """Messages at the end of the run, and its state with a sentence: (messages, type, sentence)."""
        left = [task for task in self.tasks.values() if task.state == "RUNNING"]
        failed = [task.name for task in self.tasks.values() if task.state == "FAILED"]
        done = sum(task.state == "COMPLETED" for task in self.tasks.values())
        messages = [self._state(task, "CRASHED", "the run stopped before this job was done") for task in left]
        count = f"{done} of {max(self.total, len(self.tasks))} jobs done"
        if failed:
            return messages, "FAILED", f"{count}; failed: {', '.join(failed[:10])}"
        if left or done < self.total:
            return messages, "CRASHED", f"{count}; {self.errors[-1] if self.errors else 'stopped'}"
        return messages, "FAILED" if self.errors and not done else "COMPLETED", count

    def _on_run_info(self, record):
        stats = dict(record.stats)
        self.total = stats.pop("total", sum(stats.values()))
        lines = [f"{count:>7}  {rule}" for rule, count in stats.items()]
        return [self._log("\n".join([f"{self.total} jobs:", *lines]))]

    def _on_job_info(self, record):
        """A job starts, for the first time or again."""
        known = self.tasks.get(record.jobid)
        if known is None:
            task = self.tasks[record.jobid] = self._task(record)
            self.makers |= {path: task.id for path in task.outputs}
        else:
            task = known
            task.attempt += 1
        task.started = self.now()
        name = "Running" if known is None else "Retrying"
        return [self._state(task, "RUNNING", str(record.reason or ""), name=name)]

    def _on_job_finished(self, record):
        task = self.tasks.get(record.job_id)
        if task is None:
            return []
        messages = [self._state(task, "COMPLETED", ""), self._log(f"{task.name}: {', '.join(task.outputs)}", task=task)]
        return messages + [self._artifact(task)] if task.outputs else messages

    def _on_job_error(self, record):
        task = self.tasks.get(record.jobid)
        if task is None:
            return []
        told = [text for path in map(str, record.log or ()) for text in [_tail(path)] if text]
        messages = [self._log(f"{task.name} failed\n{text}", logging.ERROR, task) for text in told or ["no log"]]
        reason = told[0].strip().splitlines()[-1] if told else str(record.rule_msg or "see Snakemake's log")
        return [self._state(task, "FAILED", reason), *messages]

    def _on_error(self, record):
        text = record.getMessage() if record.msg else str(getattr(record, "exception", "error"))
        self.errors.append(text.strip().splitlines()[0] if text.strip() else "error")
        return [self._log(text, logging.ERROR)]

    def _task(self, record):
        words = [str(value) for value in dict(record.wildcards or {}).values()]
        inputs, outputs = (tuple(map(_path, files or ())) for files in (record.input, record.output))
        parents = dict.fromkeys(self.makers[path] for path in inputs if path in self.makers)
        name = " ".join([record.rule_name, *words])
        logs = tuple(map(_path, record.log or ()))
        return Task(record.jobid, name, record.rule_name, inputs, outputs, logs, tuple(parents)[:MAX_PARENTS])

    def _state(self, task, kind, message, *, name=""):
        task.state = kind
        change = Change(
            uuid4(), kind, name or kind.capitalize(), message[:5000], self.now(), task.attempt, task.started
        )
        return Message(EVENT, lambda flow_run: _task_event(task, change, flow_run))

    def _log(self, text, level=logging.INFO, task=None):
        moment = self.now().isoformat()
        body = {"name": "snakemake", "level": level, "message": text[-20000:], "timestamp": moment}
        body |= {"task_run_id": str(task.id)} if task else {}
        return Message(LOG, lambda flow_run: body | {"flow_run_id": flow_run})

    def _artifact(self, task):
        links = "\n".join(f"* [{path}]({Path(path).absolute().as_uri()})" for path in task.outputs)
        body = {
            "key": task.rule.replace("_", "-").lower(),
            "type": "markdown",
            "description": f"What {task.name} wrote",
        }
        body |= {"data": links, "task_run_id": str(task.id)}
        return Message(ARTIFACT, lambda flow_run: body | {"flow_run_id": flow_run})


def _task_event(task, change, flow_run):
    """Event from which Prefect's server records a task run, as its own client sends them."""
    state = {"type": change.type, "name": change.name, "message": change.message, "state_details": {}, "data": None}
    return {
        "id": str(change.id),
        "occurred": change.moment.isoformat(),
        "event": f"prefect.task-run.{change.name}",
        "payload": {
            "intended": {"from": None, "to": change.type},
            "initial_state": None,
            "validated_state": state,
            "task_run": _task_run(task, change),
        },
        "resource": _resource(task, change),
        "related": [
            {"prefect.resource.id": f"prefect.flow-run.{flow_run}", "prefect.resource.role": "flow-run"},
            {"prefect.resource.id": f"prefect.tag.{task.rule}", "prefect.resource.role": "tag"},
        ],
    }


def _task_run(task, change):
    """The task run after a change."""
    started = change.started.isoformat()
    run = {
        "name": task.name,
        "task_key": task.rule,
        "dynamic_key": str(task.id),
        "run_count": change.attempt,
        "flow_run_run_count": 1,
        "task_inputs": {"files": [{"input_type": "task_run", "id": str(parent)} for parent in task.parents]},
        "tags": [task.rule],
        "expected_start_time": started,
        "start_time": started,
    }
    if change.type == "RUNNING":
        return run
    seconds = (change.moment - change.started).total_seconds()
    return run | {"end_time": change.moment.isoformat(), "total_run_time": seconds}


def _resource(task, change):
    """What an event is about, as Prefect labels it."""
    return {
        "prefect.resource.id": f"prefect.task-run.{task.id}",
        "prefect.resource.name": task.name,
        "prefect.run-count": str(change.attempt),
        "prefect.state-message": change.message,
        "prefect.state-name": change.name,
        "prefect.state-timestamp": change.moment.isoformat(),
        "prefect.state-type": change.type,
        "prefect.orchestration": "client",
    }


def _path(text):
    """Path as given, without the remarks that Snakemake adds, such as `` (send to storage)``."""
    return str(text).split(" (")[0]


def _tail(path):
    """Last lines of a text file; empty if it cannot be read."""
    try:
        return "\n".join(Path(path).read_text(errors="replace").splitlines()[-LOG_LINES:])
    except OSError:
        return ""
