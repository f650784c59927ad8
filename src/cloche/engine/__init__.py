"""Containers as a user names them: options in, a runtime spec and its launch out."""
