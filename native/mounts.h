// Mounts as file descriptors: made detached, finished (attributes, propagation), and only then
// attached. Nobody ever sees a mount that is going to be read-only while it is still writable.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "launch.h"

// A file system to be mounted.
struct filesystem {
    const char *type;
    const char *source; // may be empty
    char *const *options; // "key" or "key=value", ends with NULL
    unsigned attributes; // MOUNT_ATTR_*
};

// All of these return 0 or a file descriptor, or record failure and return -1. `path` is the
// mount's place as the user knows it, for the record.

// Makes a detached mount of a new file system.
int make_filesystem(struct run *run, const struct filesystem *filesystem, const char *path);

// Changes options of the file system that is mounted there.
int reconfigure_filesystem(struct run *run, int mount, char *const *options, const char *path);

// Makes a detached copy of the mount(s) that a file descriptor lies on, with it as the root.
int clone_mount(struct run *run, int fd, bool recursive, const char *path);

// Changes MOUNT_ATTR_* of a mount, attached or detached.
int set_mount_attributes(struct run *run, int mount, uint64_t set, uint64_t clear, bool recursive,
                         const char *path);

// Changes the propagation (MS_PRIVATE ..., with MS_REC of all mounts beneath too); 0 leaves it.
int set_mount_propagation(struct run *run, int mount, uint64_t flags, const char *path);

// Attaches a detached mount at an open place of the container. Refuses the root itself (EBUSY),
// since what is mounted there hides nothing from who is in it already, and what isn't of the kind
// of the mount's root (ENOTDIR, EISDIR).
int attach(struct run *run, int mount, int place, const char *dest);

// The same at a path of the container, whose mount point is made if missing.
int attach_in_root(struct run *run, int mount, const char *dest);

// Takes the detached mount out of a slot that `open_tree` has filled.
int take_slot(struct run *run, int64_t slot);

// Like fail(), with the reason in words after the path.
int fail_because(struct run *run, const char *call, const char *path, const char *reason);
