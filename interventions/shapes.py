"""Named axes, as used in annotations and docstrings throughout.

batch     sequences computed together
seq       tokens of one sequence, copies included
cell      counterfactuals: a prompt with edits
edit      edited tokens of one layer, over the whole batch
read      tokens whose next-token distribution is measured
layer     blocks, from 0
d_model   width of the residual stream
rank      dimensions of a subspace
vocab     tokens of the vocabulary
query     evaluated prompts of a task
"""
