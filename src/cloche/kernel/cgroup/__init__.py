"""Control groups: what a container can use, cgroups(7).

``layout``
    which hierarchies this machine has, found once and then a plain value;
``group``
    a container's cgroup at run time: its processes, freezing, killing, statistics, removal;
``v1``, ``v2``
    the two drivers behind it, each working on a directory;
``statistics``, ``files``
    the figures they report, and the forms of the files they read.

Which limits are written before a container starts is decided in ``cloche.plan.limits``.
"""
