// Paths in the container, resolved beneath its root directory.
//
// The content of a root file system may be hostile: any component may be a symbolic link that
// points anywhere, and another container that shares the directory may swap components while
// we look. So no path in the root is ever resolved by string: openat2(2) with RESOLVE_IN_ROOT
// resolves it in one call that can't leave the root, and what follows (mkdir, mknod, mount,
// chown) works on the file descriptor that came out, never on the path again.
//
// Two rules hold everywhere:
// - Magic links (/proc/PID/root, /proc/PID/fd/N, ...) are never followed: they jump to files,
//   not to paths, and would leave the root (CVE-2024-21626).
// - A dangling symbolic link in the way of something to be made is an error: what it points
//   to isn't made in its stead. Only mount points are: images have an /etc/resolv.conf that points
//   to what a service would write.
#pragma once

#include <limits.h>

#include "launch.h"

// The last component of a path.
struct component {
    char name[NAME_MAX + 1];
};

// Opens an existing path as O_PATH; `flags` are more flags of open(2), such as O_NOFOLLOW.
// Returns a file descriptor, or -1 with errno and nothing recorded. Below /proc and /sys the path
// is looked up from the procfs and sysfs that were mounted there, whatever has become of those
// names: where two containers share a directory, the other one may rename the mount point, which
// this mount namespace's mount goes along with, and a mask would find nothing to hide.
int open_in_root(const struct run *run, const char *path, int flags);

// Opens a directory, made with its missing parents (mode 0755). Records failure.
int open_directory_in_root(struct run *run, const char *path);

// Opens the directory that holds the last component of a path, as above, and takes that
// component off. Records failure.
int open_parent_in_root(struct run *run, const char *path, struct component *last);

// Opens the place to mount something on, made if missing: a directory or an empty file. Records
// failure.
int open_mount_point(struct run *run, const char *path, bool directory);
