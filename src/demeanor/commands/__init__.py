"""The commands of `demeanor`: parser and function of each together, imported when it is asked for."""
