"""The claims of all pages in one table. It has no runs of its own, and draws on theirs."""

RUNS = {}
