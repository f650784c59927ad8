// Landlock: file access only beneath chosen paths, enforced on the process and all it becomes.
#include <errno.h>
#include <sys/stat.h>

#include "in_root.h"
#include "steps.h"
#include "syscalls.h"

// Newer than the kernel headers of Linux 5.14.
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif

static const uint64_t read_access =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;

// What can be allowed of a file that is no directory; anything else in its rule is EINVAL.
static const uint64_t file_access = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
                                    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE |
                                    LANDLOCK_ACCESS_FS_IOCTL_DEV;

// Every access that a version of Landlock knows, so that what isn't allowed is denied.
static uint64_t handled_access(int64_t abi)
{
    uint64_t access = LANDLOCK_ACCESS_FS_REFER - 1; // version 1: all bits below
    if (abi >= 2)
        access |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        access |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (abi >= 5)
        access |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
    return access;
}

static int allow(struct run *run, int ruleset, const char *path, uint64_t access)
{
    struct stat status;
    cleanup_fd int place = open_in_root(run, path, 0);
    if (place < 0)
        return fail(run, "openat2", path);
    if (fstat(place, &status))
        return fail(run, "fstat", path);
    const struct landlock_path_beneath_attr rule = {
        .allowed_access = S_ISDIR(status.st_mode) ? access : access & file_access,
        .parent_fd = place,
    };
    return sys_landlock_add_path(ruleset, &rule) ? fail(run, "landlock_add_rule", path) : 0;
}

int step_landlock(struct run *run, const struct step *step)
{
    const uint64_t handled = handled_access(number_argument(step, 0));
    // The first field alone, as in version 1: the kernel takes the rest as zero.
    const struct landlock_ruleset_attr attributes = {.handled_access_fs = handled};
    cleanup_fd int ruleset =
        sys_landlock_create_ruleset(&attributes, sizeof attributes.handled_access_fs);
    if (ruleset < 0)
        return fail(run, "landlock_create_ruleset", NULL);
    for (char *const *path = vector_argument(step, 1); *path; path++) {
        if (allow(run, ruleset, *path, read_access))
            return -1;
    }
    for (char *const *path = vector_argument(step, 2); *path; path++) {
        if (allow(run, ruleset, *path, handled))
            return -1;
    }
    return sys_landlock_restrict_self(ruleset) ? fail(run, "landlock_restrict_self", NULL) : 0;
}
