"""The commands of the OCI runtime, one module for each family."""
