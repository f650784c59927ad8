"""Plans: the ordered list of kernel operations that builds a container, as a value."""
