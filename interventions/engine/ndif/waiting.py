"""Jobs on their way: sent, followed, fetched, sent again where that can help; never waited for without an end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from patchboard.engine.memory import is_out_of_memory_text
from patchboard.engine.ndif.answers import BadAnswer
from patchboard.engine.ndif.host import Host, HostRefusal, Trouble
from patchboard.engine.ndif.jobs import Job
from patchboard.errors import PatchboardError, RemoteRunError, SpecError

_WINDOW = 2
"""Jobs under way at once: the host always has the next one, and no queue is filled with ours."""
_ATTEMPTS = 3
"""How often a job is sent, and a result fetched, before that is given up."""
_PATIENCES = 30
"""Times the patience for silence that a job may stay in one place (a queue) without news."""

Tell = Callable[[str], None]


class Ledger(Protocol):
    """Ids of jobs that were sent, on disk."""

    def id_of(self, key: str) -> str | None: ...
    def note(self, key: str, name: str, id: str) -> None: ...
    def forget(self, key: str) -> None: ...


class OutOfMemory(Exception):
    """A job did not fit in the server's memory."""

    def __init__(self, job: Job):
        self.job = job
        super().__init__(job.name)


@dataclass
class _JobInFlight:
    """One job under way."""

    job: Job
    id: str
    sent: float
    heard: float = 0.0
    changed: float = 0.0
    news: str = ""
    strange: int = 0
    times: int = 1  # that it was sent


@dataclass
class JobClient:
    """Brings jobs to a host and their answers home.

    payload: a job's request body. take: given a job, its answer's bytes, and facts on its way; raises BadAnswer.
    model_key, environment: as nnsight's clients name them in a request's envelope.
    """

    host: Host
    model_key: str
    environment: Mapping[str, Any]
    ledger: Ledger
    payload: Callable[[Job], bytes]
    take: Callable[[Job, bytes, dict[str, Any]], None]
    tell: Tell
    total: int = 0
    done: int = 0
    sent_bytes: dict[str, int] = field(default_factory=dict)

    def carry(self, jobs: Sequence[Job]) -> None:
        """Returns when every job's answer is taken.

        Raises RemoteRunError where that cannot be, SpecError where the key is refused, OutOfMemory.
        """
        waiting, flights = deque(jobs), list[_JobInFlight]()
        pause = 0.05
        while waiting or flights:
            while waiting and len(flights) < _WINDOW:
                flights.append(self._started(waiting.popleft()))
                pause = 0.05
            for flight in list(flights):
                if self._landed(flight):
                    flights.remove(flight)
                    self.done += 1
                    pause = 0.05
            if flights:
                time.sleep(pause)
                pause = min(pause * 1.5, 3.0)

    def _started(self, job: Job) -> _JobInFlight:
        known = self.ledger.id_of(job.key)
        if known is not None:
            self._say(job, f"sent earlier as {known[:8]}, asking for it")
            return self._flight(job, known)
        return self._flight(job, self._sent(job))

    def _flight(self, job: Job, id: str, times: int = 1) -> _JobInFlight:
        now = time.monotonic()
        return _JobInFlight(job, id, now, now, now, times=times)

    def _sent(self, job: Job) -> str:
        """Send the job and note its id before anything waits for it."""
        from nnsight.schema.request import RequestModel

        blob = self.payload(job)
        self.sent_bytes[job.key] = len(blob)
        envelope = RequestModel(model_key=self.model_key, compress=True, env=dict(self.environment)).metadata()
        reply = self._insistently(lambda: self.host.post(envelope, blob))
        id, status = (reply.get("id"), reply.get("status")) if isinstance(reply, dict) else (None, None)
        if not id:
            raise self._stopped("gave no id for a job", "is this an NDIF host? see docs/remote.md")
        if status == "ERROR":
            raise self._failed(job, str(reply.get("description", "")))
        self.ledger.note(job.key, job.name, id)
        self._say(job, f"sent as {id[:8]}, {_size(len(blob))}")
        return id

    def _insistently(self, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer; raises where the host's patience is over or it refuses."""
        end, pause = time.monotonic() + self.host.patience, 0.2
        while True:
            try:
                return ask()
            except HostRefusal as error:
                raise self._refused(error) from None
            except Trouble as error:
                if time.monotonic() + pause > end:
                    raise self._stopped(str(error)) from None
                time.sleep(pause)
                pause = min(pause * 2, 5.0)

    def _landed(self, flight: _JobInFlight) -> bool:
        """One look at a job; True once its answer is taken."""
        now = time.monotonic()
        try:
            reply = self.host.get_json(f"/response/{flight.id}")
        except HostRefusal as error:
            if error.status != 404:
                raise self._refused(error) from None
            flight.heard = time.monotonic()
            if now - flight.sent > min(30.0, self.host.patience / 2):
                self._again(flight, "is unknown to the host (restarted?)")
            return False
        except Trouble as error:
            if time.monotonic() - flight.heard > self.host.patience:
                raise self._stopped(str(error)) from None
            return False
        flight.heard = time.monotonic()
        if not isinstance(reply, dict) or reply.get("id") != flight.id:
            flight.strange += 1
            if flight.strange >= _ATTEMPTS:
                self._again(flight, "is answered for with another job's status")
            return False
        flight.strange = 0
        status, text = str(reply.get("status")), str(reply.get("description") or "")
        if status == "COMPLETED":
            return self._fetched(flight, reply)
        if status == "ERROR":
            self._error(flight, text)
            return False
        self._note_news(flight, status, text)
        return False

    def _note_news(self, flight: _JobInFlight, status: str, text: str) -> None:
        news = f"{status.lower()}{': ' + text if text else ''}"
        if news != flight.news:
            flight.news, flight.changed = news, time.monotonic()
            self._say(flight.job, news)
        elif time.monotonic() - flight.changed > _PATIENCES * self.host.patience:
            what = f"left job {flight.id[:8]} {status.lower()} for {_PATIENCES * self.host.patience:.0f} s without news"
            raise self._stopped(what)

    def _fetched(self, flight: _JobInFlight, reply: Mapping[str, Any]) -> bool:
        where, problem = reply.get("data"), "carries no address of its result"
        for attempt in range(_ATTEMPTS if isinstance(where, str) and where else 0):
            if attempt:
                time.sleep(0.2 * 2**attempt)
            try:
                content = self.host.download(str(where))
                seconds = round(time.monotonic() - flight.sent, 3)
                facts = {"id": flight.id, "seconds": seconds, "bytes_down": len(content)}
                facts["bytes_up"] = self.sent_bytes.get(flight.job.key)
                self.take(flight.job, content, facts)
                self._say(flight.job, f"done in {seconds:.1f} s, {_size(len(content))}")
                return True
            except BadAnswer as error:
                problem = f"brought a result that {error}"
            except Trouble as error:
                problem = f"does not hand over its result: the host {error}"
            except HostRefusal as error:
                problem = f"does not hand over its result ({error})"
        self._again(flight, problem)
        return False

    def _error(self, flight: _JobInFlight, text: str) -> None:
        """The server's own failure: what can be helped by sending it again is, within measure."""
        if is_out_of_memory_text(text):
            self.ledger.forget(flight.job.key)
            raise OutOfMemory(flight.job)
        if any(sign in text.lower() for sign in ("preempted", "cancelled", "evicted", "is cached")):
            self._again(flight, f"was dropped by the host ({last_line(text)})")
            return
        raise self._failed(flight.job, text)

    def _failed(self, job: Job, text: str) -> PatchboardError:
        self.ledger.forget(job.key)
        remedy = "the same command tries again; docs/remote.md lists what servers refuse"
        if "not whitelisted" in text or "unpickl" in text.lower() or "nnsight" in last_line(text).lower():
            remedy = "its nnsight may differ from the one here (docs/remote.md); the same command tries again"
        elif "longer than timeout" in text:
            remedy = "use smaller jobs: --job-tokens; finished ones are kept"
        elif "not deployed" in text or "not currently" in text:
            remedy = "wait until it is served; the same command resumes"
        return self._stopped(f"ended job {job.name} with an error: {last_line(text)}", remedy)

    def _again(self, flight: _JobInFlight, why: str) -> None:
        """Send the job once more, or give up."""
        self.ledger.forget(flight.job.key)
        if flight.times >= _ATTEMPTS:
            raise self._stopped(f"job {flight.job.name} {why}, {_ATTEMPTS} times over")
        self._say(flight.job, f"{why}: sent again")
        fresh = self._flight(flight.job, self._sent(flight.job), flight.times + 1)
        vars(flight).update(vars(fresh))

    def _refused(self, error: HostRefusal) -> PatchboardError:
        if error.status == 401 or (error.status == 403 and "key" in error.detail.lower()):
            return SpecError("NDIF_API_KEY", f"{self.host.url} refuses it ({error.detail})", "check the key")
        remedy = (
            "may the key use this model? is nnsight's version the host's (docs/remote.md)? the same command resumes"
        )
        return self._stopped(f"answers {error}", remedy)

    def _stopped(self, what: str, remedy: str = "") -> RemoteRunError:
        kept = f"{self.done} of {self.total} jobs are done and kept"
        return RemoteRunError(self.host.url, f"{what} ({kept})", remedy or "the same command resumes")

    def _say(self, job: Job, what: str) -> None:
        self.tell(f"job {job.name} ({self.done} of {self.total} done): {what}")


def last_line(text: str) -> str:
    """What a server's traceback comes down to."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
