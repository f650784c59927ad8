// What a run leaves behind on the host, and how it is taken back.
#pragma once

#include "launch.h"

enum undo_kind {
    UNDO_FILE,
    UNDO_DIRECTORY,
    UNDO_CGROUP,
    // One that systemd has made: it is told by the kernel when the last process is gone, but not
    // if the cgroup is removed right after.
    UNDO_PROCESSES,
};

struct undo {
    enum undo_kind kind;
    const char *path;
};

// Notes something to be taken back at the end; there is room for one of each step.
void undo_add(struct run *run, enum undo_kind kind, const char *path);

// Forgets what was to be taken back: it stays.
void undo_forget(struct run *run);

// Takes everything back in reverse order. What can't be taken back stays: an error here would
// only hide the first one.
void undo_all(struct run *run);

// Notes the children that this process has before it spawns the container: a process that had
// children may have become the launcher. They are never killed.
void note_elders(struct run *run);

// Kills every process that is left of the container, which has ended: those in the cgroups that
// the run has made, and those that its processes left to the launcher as their reaper.
void kill_leftovers(struct run *run);
