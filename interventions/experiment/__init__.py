"""The frame of the paper's experiments: what is the experiment's own, and what all of them share.

An experiment is a class in ``experiments/NAME/experiment.py``, beside its script ``experiments/NAME.py``. One that
makes something of a finished run (``frame.StudyExperiment``):

    @dataclass(frozen=True)
    class Decodability(StudyExperiment):
        projection: Method = "pca"                           # the script's own flags
        tables = ("pairs.parquet", "projection.parquet")     # what compute gives

        def prepare(self, study): ...                        # the user's study -> the one to run, or SpecError
        def compute(self, run, folder, options): ...         # a FinishedRun -> {"pairs.parquet": DataFrame, …}
        def summarise(self, run, tables): ...                # -> summary.json
        def findings(self, summary): ...                     # -> sentences, printed and on the page
        def page(self, run, tables, summary): ...            # -> Page: prose, tables of text, figures

One that trains models of its own (``frame.TrainingExperiment``) has settings of its own in place of a study
(``settings.ExperimentSettings``), and tells their ``plan``. The frame does the rest: folder, lock, resuming, files,
manifest, page, command line (``command.StudyScript``, ``command.TrainingScript``), printing, ``--json``.
``training`` is the loop of all trainings, whose state ``training_state`` keeps and restores. The other modules are what
several experiments compute and draw.
"""
