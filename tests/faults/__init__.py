"""The faults that the pipeline must survive, made for real: ``python -m tests.faults``."""
