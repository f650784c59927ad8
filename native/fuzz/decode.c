// The decoder's fuzz target: whatever the bytes, it reads nothing outside of them, and what it
// accepts is safe to use. Run with libFuzzer (`make fuzz`), or by check.c.
#include "../decode.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int decode_and_use(const uint8_t *data, size_t size);

// Reads all of a value, for the sanitizer to see. Returns something that depends on all of it.
static size_t use(const struct value *value)
{
    size_t sum = 0;
    switch (value->type) {
    case 's':
        if (strlen(value->string) != value->length)
            abort();
        return sum;
    case 'b':
        for (uint32_t i = 0; i < value->length; i++)
            sum += value->blob[i];
        return sum;
    case 'v':
        for (uint32_t i = 0; i < value->length; i++)
            sum += strlen(value->vector[i]);
        if (value->vector[value->length])
            abort();
        return sum;
    }
    return (size_t)value->number;
}

int decode_and_use(const uint8_t *data, size_t size)
{
    static const unsigned char counts[] = {
#define COUNT(upper, name, signature, slots) sizeof signature - 1,
        FOR_EACH_OPERATION(COUNT)
#undef COUNT
    };
    size_t sum = 0;
    struct arena arena = {.size = arena_size(data, size)};
    arena.start = malloc(arena.size);
    if (!arena.start)
        abort();
    struct plan plan;
    int result = decode_plan(data, size, &arena, &plan);
    for (uint32_t i = 0; result == 0 && i < plan.step_count; i++) {
        sum += strlen(plan.steps[i].why);
        for (unsigned j = 0; j < counts[plan.steps[i].operation]; j++)
            sum += use(&plan.steps[i].arguments[j]);
    }
    volatile size_t sink = sum; // or the compiler would leave the reading out
    (void)sink;
    free(arena.start);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode_and_use(data, size);
    // Most mutations break the header's fixed parts; put right, they get further.
    if (size < 64)
        return 0;
    uint8_t *repaired = malloc(size);
    if (!repaired)
        abort();
    memcpy(repaired, data, size);
    const uint32_t fixed[] = {CATALOGUE_CHECKSUM, (uint32_t)size};
    memcpy(repaired, "CLOCHE\r\n", 8);
    memcpy(repaired + 8, fixed, sizeof fixed);
    memset(repaired + 40, 0, 24);
    decode_and_use(repaired, size);
    free(repaired);
    return 0;
}
