"""Jobs on their way: sent, followed, fetched, sent again where that can help; never waited for without an end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from patchboard.engine.memory import is_out_of_memory_text
from patchboard.engine.ndif.answers import BadAnswer
from patchboard.engine.ndif.host import Host, HostRefusal, PassingFailure
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
    def record(self, key: str, name: str, id: str) -> None: ...
    def forget(self, key: str) -> None: ...


class OutOfMemory(Exception):
    """A job did not fit in the server's memory."""

    def __init__(self, job: Job):
        self.job = job
        super().__init__(job.name)


@dataclass
class _SentJob:
    """One job under way."""

    job: Job
    id: str
    sent_at: float
    heard_at: float = 0.0
    changed_at: float = 0.0
    news: str = ""
    mismatches: int = 0
    """Answers in a row that were of another job."""
    attempts: int = 1
    """How often it was sent."""


@dataclass
class JobClient:
    """Brings jobs to a host and their answers home.

    payload: a job's request body. take: given a job, its answer's bytes, and facts on its way; raises BadAnswer.
    model_key, environment: as nnsight's clients name them in a request's envelope.
    step: told how many more jobs are done.
    """

    host: Host
    model_key: str
    environment: Mapping[str, Any]
    ledger: Ledger
    payload: Callable[[Job], bytes]
    take: Callable[[Job, bytes, dict[str, Any]], None]
    tell: Tell
    step: Callable[[int], None] = lambda count: None
    total: int = 0
    done: int = 0
    sent_bytes: dict[str, int] = field(default_factory=dict)

    def run(self, jobs: Sequence[Job]) -> None:
        """Returns when every job's answer is taken.

        Raises RemoteRunError where that cannot be, SpecError where the key is refused, OutOfMemory.
        """
        waiting, under_way = deque(jobs), list[_SentJob]()
        pause = 0.05
        self.step(0)
        while waiting or under_way:
            while waiting and len(under_way) < _WINDOW:
                under_way.append(self._start(waiting.popleft()))
                pause = 0.05
            for sent in list(under_way):
                if self._is_done(sent):
                    under_way.remove(sent)
                    self.done += 1
                    self.step(1)
                    pause = 0.05
            if under_way:
                time.sleep(pause)
                pause = min(pause * 1.5, 3.0)

    def _start(self, job: Job) -> _SentJob:
        known = self.ledger.id_of(job.key)
        if known is not None:
            self._say(job, f"sent earlier as {known[:8]}, asking for it")
            return self._followed(job, known)
        return self._followed(job, self._send(job))

    def _followed(self, job: Job, id: str, attempts: int = 1) -> _SentJob:
        now = time.monotonic()
        return _SentJob(job, id, now, now, now, attempts=attempts)

    def _send(self, job: Job) -> str:
        """Send the job and note its id before anything waits for it."""
        from nnsight.schema.request import RequestModel

        blob = self.payload(job)
        self.sent_bytes[job.key] = len(blob)
        envelope = RequestModel(model_key=self.model_key, compress=True, env=dict(self.environment)).metadata()
        reply = self._with_retries(lambda: self.host.post(envelope, blob))
        id, status = (reply.get("id"), reply.get("status")) if isinstance(reply, dict) else (None, None)
        if not id:
            raise self._stop_error("gave no id for a job", "is this an NDIF host? see docs/remote.md")
        if status == "ERROR":
            raise self._failure_of(job, str(reply.get("description", "")))
        self.ledger.record(job.key, job.name, id)
        self._say(job, f"sent as {id[:8]}, {_size(len(blob))}")
        return id

    def _with_retries(self, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer; raises where the host's patience is over or it refuses."""
        end, pause = time.monotonic() + self.host.patience, 0.2
        while True:
            try:
                return ask()
            except HostRefusal as error:
                raise self._refusal(error) from None
            except PassingFailure as error:
                if time.monotonic() + pause > end:
                    raise self._stop_error(str(error)) from None
                time.sleep(pause)
                pause = min(pause * 2, 5.0)

    def _is_done(self, sent: _SentJob) -> bool:
        """One look at a job; True once its answer is taken."""
        now = time.monotonic()
        try:
            reply = self.host.get_json(f"/response/{sent.id}")
        except HostRefusal as error:
            if error.status != 404:
                raise self._refusal(error) from None
            sent.heard_at = time.monotonic()
            if now - sent.sent_at > min(30.0, self.host.patience / 2):
                self._resend(sent, "is unknown to the host (restarted?)")
            return False
        except PassingFailure as error:
            if time.monotonic() - sent.heard_at > self.host.patience:
                raise self._stop_error(str(error)) from None
            return False
        sent.heard_at = time.monotonic()
        if not isinstance(reply, dict) or reply.get("id") != sent.id:
            sent.mismatches += 1
            if sent.mismatches >= _ATTEMPTS:
                self._resend(sent, "is answered for with another job's status")
            return False
        sent.mismatches = 0
        status, text = str(reply.get("status")), str(reply.get("description") or "")
        if status == "COMPLETED":
            return self._fetch(sent, reply)
        if status == "ERROR":
            self._handle_failure(sent, text)
            return False
        self._watch_status(sent, status, text)
        return False

    def _watch_status(self, sent: _SentJob, status: str, text: str) -> None:
        news = f"{status.lower()}{': ' + text if text else ''}"
        if news != sent.news:
            sent.news, sent.changed_at = news, time.monotonic()
            self._say(sent.job, news)
        elif time.monotonic() - sent.changed_at > _PATIENCES * self.host.patience:
            what = f"left job {sent.id[:8]} {status.lower()} for {_PATIENCES * self.host.patience:.0f} s without news"
            raise self._stop_error(what)

    def _fetch(self, sent: _SentJob, reply: Mapping[str, Any]) -> bool:
        where, problem = reply.get("data"), "carries no address of its result"
        for attempt in range(_ATTEMPTS if isinstance(where, str) and where else 0):
            if attempt:
                time.sleep(0.2 * 2**attempt)
            try:
                content = self.host.download(str(where))
                seconds = round(time.monotonic() - sent.sent_at, 3)
                facts = {"id": sent.id, "seconds": seconds, "bytes_down": len(content)}
                facts["bytes_up"] = self.sent_bytes.get(sent.job.key)
                self.take(sent.job, content, facts)
                self._say(sent.job, f"done in {seconds:.1f} s, {_size(len(content))}")
                return True
            except BadAnswer as error:
                problem = f"brought a result that {error}"
            except PassingFailure as error:
                problem = f"does not hand over its result: the host {error}"
            except HostRefusal as error:
                problem = f"does not hand over its result ({error})"
        self._resend(sent, problem)
        return False

    def _handle_failure(self, sent: _SentJob, text: str) -> None:
        """The server's own failure: what can be helped by sending it again is, within measure."""
        if is_out_of_memory_text(text):
            self.ledger.forget(sent.job.key)
            raise OutOfMemory(sent.job)
        if any(sign in text.lower() for sign in ("preempted", "cancelled", "evicted", "is cached")):
            self._resend(sent, f"was dropped by the host ({last_line(text)})")
            return
        raise self._failure_of(sent.job, text)

    def _failure_of(self, job: Job, text: str) -> PatchboardError:
        self.ledger.forget(job.key)
        remedy = "the same command tries again; docs/remote.md lists what servers refuse"
        if "not whitelisted" in text or "unpickl" in text.lower() or "nnsight" in last_line(text).lower():
            remedy = "its nnsight may differ from the one here (docs/remote.md); the same command tries again"
        elif "longer than timeout" in text:
            remedy = "use smaller jobs: --job-tokens; finished ones are kept"
        elif "not deployed" in text or "not currently" in text:
            remedy = "wait until it is served; the same command resumes"
        return self._stop_error(f"ended job {job.name} with an error: {last_line(text)}", remedy)

    def _resend(self, sent: _SentJob, why: str) -> None:
        """Send the job once more, or give up."""
        self.ledger.forget(sent.job.key)
        if sent.attempts >= _ATTEMPTS:
            raise self._stop_error(f"job {sent.job.name} {why}, {_ATTEMPTS} times over")
        self._say(sent.job, f"{why}: sent again")
        anew = self._followed(sent.job, self._send(sent.job), sent.attempts + 1)
        vars(sent).update(vars(anew))

    def _refusal(self, error: HostRefusal) -> PatchboardError:
        if error.status == 401 or (error.status == 403 and "key" in error.detail.lower()):
            return SpecError("NDIF_API_KEY", f"{self.host.url} refuses it ({error.detail})", "check the key")
        remedy = (
            "may the key use this model? is nnsight's version the host's (docs/remote.md)? the same command resumes"
        )
        return self._stop_error(f"answers {error}", remedy)

    def _stop_error(self, what: str, remedy: str = "") -> RemoteRunError:
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
