// spawn TIMES PARALLEL ERRORS PROGRAM [ARGUMENT ...]: run a program TIMES times, up to PARALLEL of
// them at once, and print nanoseconds, those of processor time, the largest resident set in KiB,
// and the last exit status.
//
// Small and static, for the sake of the figures: a process that becomes a program counts what it
// was before among its peak memory, and forking a large one takes its time. Each % in an argument
// becomes the number of the run. ERRORS is the file that the programs' standard error goes to.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST = 4096 };

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static char *numbered(const char *argument, int number)
{
    const char *percent = strchr(argument, '%');
    char *text = malloc(LONGEST);
    if (percent)
        snprintf(text, LONGEST, "%.*s%d%s", (int)(percent - argument), argument, number,
                 percent + 1);
    else
        snprintf(text, LONGEST, "%s", argument);
    return text;
}

static void become(char **arguments, int number)
{
    for (char **argument = arguments; *argument; argument++)
        *argument = numbered(*argument, number);
    execv(arguments[0], arguments);
    _exit(127);
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    int times = atoi(argv[1]);
    int parallel = atoi(argv[2]);
    int errors = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    long long begun = now();
    long peak = 0;
    int last = 0;
    int running = 0;
    for (int number = 0; number < times || running;) {
        if (number < times && running < parallel) {
            if (fork() == 0) {
                dup2(null, 0);
                dup2(null, 1);
                dup2(errors, 2);
                become(argv + 4, number);
            }
            number++;
            running++;
            continue;
        }
        int status;
        struct rusage usage;
        if (wait4(-1, &status, 0, &usage) < 0)
            return 1;
        running--;
        if (status)
            last = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        peak = usage.ru_maxrss > peak ? usage.ru_maxrss : peak;
    }
    long long taken = now() - begun;
    struct rusage all;
    getrusage(RUSAGE_CHILDREN, &all);
    long long seconds = all.ru_utime.tv_sec + all.ru_stime.tv_sec;
    long long busy = seconds * 1000000000 + (all.ru_utime.tv_usec + all.ru_stime.tv_usec) * 1000LL;
    printf("%lld %lld %ld %d\n", taken, busy, peak, last);
    return 0;
}
