"""What a run calls its models, and how it counts and times its phases."""

from patchboard.execution.identity import distinct_names
from patchboard.execution.progress import Progress
from patchboard.spec.sections import ModelSection


def test_models_of_one_label_are_told_apart_by_what_differs():
    main, step = (ModelSection(name="org/m", revision=revision) for revision in ("main", "step-3"))
    half, other = ModelSection(name="org/m", dtype="float16"), ModelSection(name="org/other")
    assert distinct_names([main, other]) == ["org/m", "org/other"]
    assert distinct_names([main, step, other]) == ["org/m", "org/m@step-3", "org/other"]
    assert distinct_names([main, half]) == ["org/m, dtype auto", "org/m, dtype float16"]


def test_steps_add_up_in_each_phase_and_seconds_over_all_its_times(monkeypatch):
    ticks, clock, processor = [], iter([1.0, 3.0, 10.0, 10.5]), iter([0.0, 0.75, 2.0, 2.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("time.process_time", lambda: next(processor))
    progress = Progress(lambda *tick: ticks.append(tick))
    fits, packs = progress.counter("fits", 5), progress.counter("packs", 2)
    for count in (2, 3):
        fits(count)
        packs(1)
    assert ticks == [("fits", 2, 5), ("packs", 1, 2), ("fits", 5, 5), ("packs", 2, 2)]
    for _ in range(2):
        with progress.timed("fit"):
            pass
    assert progress.seconds == {"fit": 2.5}
    assert progress.processor_seconds == {"fit": 1.0}
