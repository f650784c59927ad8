// Making and ending processes.
#pragma once

#include <sys/wait.h>

#include "launch.h"

// Makes a process as fork(2) does. Returns its pid, 0 in the process itself, or -1.
pid_t fork_process(void);

// The same, in new namespaces (CLONE_NEW*).
pid_t fork_process_in(unsigned long kinds);

// Waits for the end of a child of HOST's own that isn't the container, by pid. Returns the
// status as of waitpid(2), or -1.
int wait_for(pid_t pid);

// Whether a plan has a step of this operation.
bool has_operation(const struct plan *plan, enum operation operation);

// Returns when a process started, field 22 of proc_pid_stat(5), or 0 when it is gone.
uint64_t process_start_time(pid_t pid);

// Kills the child and waits for it, unless that has been done.
void spawn_end(struct run *run);
