"""The command line: one module for each family of verbs, loaded only when it is asked for."""
