// overlayfs finds its layers by path, and fsconfig(2) takes values of up to 255 bytes: too few for
// the lower directories together, or for one path that lies deep. So long ones are opened here, and
// named by /proc/self/fd/N, which leads the kernel to what is open whatever its path.
#include "layers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

bool is_layer_option(const char *key)
{
    return !strcmp(key, "lowerdir") || !strcmp(key, "upperdir") || !strcmp(key, "workdir");
}

// Copies the first path of an option's value, in which a backslash stands before each colon and
// backslash that doesn't end the path. Returns what comes after it, or NULL with errno.
static const char *take_path(const char *value, bool is_list, char path[PATH_MAX])
{
    size_t length = 0;
    for (; *value && !(is_list && *value == ':'); value++) {
        if (value[0] == '\\' && value[1])
            value++;
        if (length + 1 >= PATH_MAX) {
            errno = ENAMETOOLONG;
            return NULL;
        }
        path[length++] = *value;
    }
    path[length] = '\0';
    return value;
}

int layers_shorten(struct layers *layers, const char *key, const char *value, char *shorter,
                   unsigned size)
{
    bool is_list = !strcmp(key, "lowerdir");
    struct text text = text_begin(shorter, size);
    char path[PATH_MAX];
    while (*value) {
        if (*value == ':') {
            text_add(&text, ":");
            value++;
        }
        value = take_path(value, is_list, path);
        if (!value)
            return -1;
        if (layers->count == MAX_LAYERS) {
            errno = E2BIG;
            return -1;
        }
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return -1;
        layers->fds[layers->count++] = fd;
        text_add(&text, "/proc/self/fd/");
        text_add_number(&text, (uint64_t)fd);
    }
    if (text.length + 1 == size) { // it may have been cut off
        errno = E2BIG;
        return -1;
    }
    return 0;
}

void layers_close(struct layers *layers)
{
    int error = errno;
    while (layers->count > 0)
        close(layers->fds[--layers->count]);
    errno = error;
}
