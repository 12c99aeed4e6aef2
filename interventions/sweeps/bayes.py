"""A Bayesian search by optuna (TPE), whose state is a file: a killed sweep goes on where it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from patchboard.sweeps.file import SweepFile
from patchboard.sweeps.parameter import Point

_POINT = "point"


class Bayes:
    """``count`` points in all: first those of earlier processes, whose finished runs cost nothing, then new ones."""

    def __init__(self, sweep: SweepFile, count: int, folder: Path):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.count, self._parameters = count, sweep.parameters
        space = [sweep.metric, sweep.goal, [(p.name, p.distribution, dict(p.given)) for p in sweep.parameters]]
        name = hashlib.sha256(json.dumps(space).encode()).hexdigest()[:8]  # in another space it is another search
        storage = JournalStorage(JournalFileBackend(str(folder / f"search-{name}.jsonl")))
        study = optuna.create_study(storage=storage, study_name=name, direction=sweep.goal, load_if_exists=True)
        self._study = study
        self._trials = {
            _key(trial.user_attrs[_POINT]): trial for trial in _by_state(study) if _POINT in trial.user_attrs
        }
        # of the number of trials: with the same seed a resumed search would draw its first points again
        study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
        self._earlier = [trial.user_attrs[_POINT] for trial in self._trials.values()][:count]
        self._asked = 0

    def ask(self) -> Point | None:
        if self._asked == self.count:
            return None
        self._asked += 1
        if self._earlier:
            return self._earlier.pop(0)
        trial = self._study.ask()
        point = {parameter.name: parameter.suggest(trial) for parameter in self._parameters}
        trial.set_user_attr(_POINT, point)
        self._trials[_key(point)] = self._study.trials[trial.number]
        return point

    def tell(self, point: Point, value: float | None) -> None:
        trial = self._trials[_key(point)]
        if trial.state == TrialState.COMPLETE:
            return
        if trial.state == TrialState.FAIL:
            if value is not None:  # a failed trial stays one: what it has become is told as another
                self._study.add_trial(
                    optuna.create_trial(
                        params=trial.params, distributions=trial.distributions, value=value, user_attrs=trial.user_attrs
                    )
                )
            return
        self._study.tell(trial.number, value, state=None if value is not None else TrialState.FAIL)


def _by_state(study: optuna.Study) -> list[FrozenTrial]:
    """Trials in order, but of one point the finished one last, which then stands for it."""
    return sorted(study.trials, key=lambda trial: (trial.state == TrialState.COMPLETE, trial.number))


def _key(point: Any) -> str:
    return json.dumps(point, sort_keys=True)
