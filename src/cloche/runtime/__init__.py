"""The life of a container, from a plan to its exit record."""
