// Access to devices on cgroup v2: an eBPF program that the planner has generated.
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "steps.h"

static int sys_bpf(int command, union bpf_attr *attributes)
{
    return (int)syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

static int load(const struct value *program, char *log, size_t size)
{
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    attributes.insns = (uintptr_t)program->blob;
    attributes.insn_cnt = program->length / sizeof(struct bpf_insn);
    attributes.license = (uintptr_t)"Apache-2.0";
    memcpy(attributes.prog_name, "cloche_devices", sizeof "cloche_devices");
    if (size) {
        attributes.log_level = 1;
        attributes.log_buf = (uintptr_t)log;
        attributes.log_size = (uint32_t)size;
    }
    return sys_bpf(BPF_PROG_LOAD, &attributes);
}

// Records that the kernel's verifier refused the program, with the end of what it says.
static int fail_load(struct run *run, const struct value *program)
{
    enum { SHOWN = 400 };
    static char log[1 << 16];
    int error = errno;
    size_t length = 0;
    if (error != EPERM && load(program, log, sizeof log) < 0)
        length = strlen(log);
    errno = error;
    return fail(run, "bpf (load)", length ? log + (length > SHOWN ? length - SHOWN : 0) : NULL);
}

int step_device_filter(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    const struct value *program = &step->arguments[1];
    cleanup_fd int cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cgroup < 0)
        return fail(run, "open", path);
    cleanup_fd int loaded = load(program, NULL, 0);
    if (loaded < 0)
        return fail_load(run, program);
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.target_fd = (uint32_t)cgroup;
    attributes.attach_bpf_fd = (uint32_t)loaded;
    attributes.attach_type = BPF_CGROUP_DEVICE;
    // Beside programs of others, above all systemd's: what one denies is denied.
    attributes.attach_flags = BPF_F_ALLOW_MULTI;
    if (sys_bpf(BPF_PROG_ATTACH, &attributes) < 0)
        return fail(run, "bpf (attach)", path);
    return 0;
}
