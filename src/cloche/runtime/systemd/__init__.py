"""Cgroups that systemd makes, as ``--systemd-cgroup`` asks for it.

``scope``
    a transient scope for a container, and new limits for it;
``properties``
    the resources of a spec in systemd's terms;
``bus``
    as much of D-Bus as that takes.
"""
