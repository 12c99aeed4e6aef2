"""The pages that docs/make_results.py makes: of each NAME a ``NAME.py`` (its runs, and what is read out of them) and a
``NAME.md.j2`` (the text around the numbers). Everything else here is the frame."""
