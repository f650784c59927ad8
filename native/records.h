// What the launcher learns, in memory that it shares with the planner. The layout is that of
// src/cloche/runtime/records.py, which reads it: fixed-width integers, no padding.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define RECORDS_MAGIC UINT64_C(0x005344524F434552) // "RECORDS\0" in memory

enum progress { PLANNED, SPAWNED, CREATED, STARTED, EXITED, FAILED };

struct step_times {
    uint64_t begun; // CLOCK_MONOTONIC, nanoseconds
    uint64_t ended;
};

struct failure {
    uint32_t set; // written last: whoever sees it finds the rest complete
    uint32_t step; // while not set: the step being carried out
    uint32_t stage;
    int32_t error;
    char call[32];
    char path[512];
    uint32_t head_length;
    uint32_t zero;
    uint8_t head[1024]; // of the file that couldn't be executed
};

struct records {
    uint64_t magic;
    uint32_t step_count;
    uint32_t progress;
    uint64_t begun;
    uint64_t ready;
    uint64_t ended;
    int32_t pid;
    uint32_t exit_code;
    uint32_t signal;
    uint32_t timed_out;
    uint64_t user_us;
    uint64_t system_us;
    uint64_t peak_bytes;
    uint64_t oom_kills;
    uint64_t start_time; // of the process, as in proc_pid_stat(5); 0 when nobody asked for it
    struct failure failure;
    struct step_times steps[];
};

_Static_assert(offsetof(struct records, pid) == 40, "the header has 40 bytes");
_Static_assert(offsetof(struct records, failure) == 96, "the outcome has 56 bytes");
_Static_assert(offsetof(struct records, steps) == 1688, "the failure has 1592 bytes");
