"""The queue: jobs in order of arrival, one worker, and who is told of what."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from execution import described
from faults import Faults
from frames import Connection
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel, Status

_OF_JOBS = ("lose_job", "hang", "slow", "server_error", "out_of_memory")
_OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.20 GiB is "
    "free. Including non-PyTorch memory, this process has 77.89 GiB memory in use."
)


@dataclass
class Job:
    id: str
    request: RequestModel
    blob: bytes
    faults: dict[str, dict[str, Any]]
    """Faults that strike this job, settled when it came."""
    response: ResponseModel | None = None
    """The last status of a job without a websocket; what /response tells."""
    result: bytes | None = field(default=None, repr=False)


class Jobs:
    """All jobs since the last restart.

    execute: runs a job's blob and returns its result's bytes. url: of this server, for results.
    """

    def __init__(self, execute: Callable[[RequestModel, bytes], bytes], faults: Faults, url: str) -> None:
        self._execute, self._faults, self._url = execute, faults, url
        self._jobs: dict[str, Job] = {}
        self._queue: list[Job] = []
        self._listening: dict[str, Connection] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._work, daemon=True).start()

    def subscribe(self, connection: Connection) -> str:
        """A new session, whose jobs report over the connection."""
        session = str(uuid.uuid4())
        with self._changed:
            self._listening[session] = connection
        return session

    def unsubscribe(self, session: str) -> None:
        with self._changed:
            self._listening.pop(session, None)

    def submit(self, request: RequestModel, blob: bytes) -> ResponseModel:
        taken = {name: self._faults.take(name, size=len(blob)) for name in _OF_JOBS}
        job = Job(str(uuid.uuid4()), request, blob, {name: found for name, found in taken.items() if found})
        received = ResponseModel(
            id=job.id,
            status=Status.RECEIVED,
            description="Your job has been received and is waiting to be queued.",
        )
        if "lose_job" in job.faults:
            return received
        with self._changed:
            self._jobs[job.id] = job
            if "hang" not in job.faults:
                self._queue.append(job)
            self._tell(job, Status.QUEUED, f"Added to Queue at position {max(1, len(self._queue))}.")
            self._changed.notify_all()
        return received

    def response(self, job_id: str) -> ResponseModel | None:
        job = self._jobs.get(job_id)
        return None if job is None else job.response

    def result(self, job_id: str) -> bytes | None:
        job = self._jobs.get(job_id)
        return None if job is None else job.result

    def earlier_result(self, job_id: str) -> bytes | None:
        """The result of the last job before this one that has a result."""
        before = []
        for known, job in self._jobs.items():
            if known == job_id:
                break
            before.append(job.result)
        return next((result for result in reversed(before) if result is not None), None)

    def forget(self) -> None:
        """What a restart does: no job, finished or not, is known any more, and every websocket is cut."""
        with self._changed:
            self._jobs.clear()
            self._queue.clear()
            listening = list(self._listening.values())
            self._listening.clear()
        for connection in listening:
            connection.cut()

    def _tell(self, job: Job, status: Status, description: str, data: Any = None) -> None:
        """Where a job has come to: over its websocket, else kept for polling (never both, as NDIF has it)."""
        response = ResponseModel(id=job.id, status=status, description=description, data=data)
        if not job.request.session_id:
            job.response = response
        elif connection := self._listening.get(job.request.session_id):
            connection.send(response.model_dump_json())

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                job = self._queue.pop(0)
                for i, waiting in enumerate(self._queue):
                    self._tell(waiting, Status.QUEUED, f"Moved to position {i + 1} in Queue.")
            self._finish(job)

    def _finish(self, job: Job) -> None:
        self._tell(job, Status.DISPATCHED, "Your job has been sent to the model deployment.")
        self._tell(job, Status.RUNNING, "Your job has started running.")
        try:
            if "slow" in job.faults:
                time.sleep(job.faults["slow"].get("seconds", 1.0))
            if "server_error" in job.faults:
                raise RuntimeError(job.faults["server_error"].get("text", "the deployment failed on purpose"))
            if "out_of_memory" in job.faults:
                raise torch.OutOfMemoryError(_OUT_OF_MEMORY)
            job.result = self._execute(job.request, job.blob)
        except BaseException as error:  # a job that exits ends itself, not the worker
            self._tell(job, Status.ERROR, described(error))
            return
        self._tell(job, Status.COMPLETED, "Your job has been completed.", f"{self._url}/result/{job.id}")
