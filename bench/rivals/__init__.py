"""Libraries that a user would pick instead: one adapter each, with the library's best settings.

Every adapter solves the package's objective (contract.py) and leaves its weights for the check.
"""

#: adapters, in the order of the table
RIVALS = (
    "rivals.numpy_blocks",
    "rivals.torch_cpu",
    "rivals.scikit_learn",
    "rivals.intelex",
    "rivals.cyanure64",
)
