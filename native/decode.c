// What comes in is untrusted until it has passed through here: every offset, count and type is
// checked once, so that no step function checks again.
//
// All numbers of the wire form are read with memcpy, since nothing aligns them, and all sums
// are made in 64 bits, where sums of two u32 or of a checked offset and a u32 can't overflow.
#include "decode.h"

#include <stdalign.h>
#include <string.h>

enum { HEADER_SIZE = 64, HEADER_USED = 40, STEP_SIZE = 16, VALUE_SIZE = 16 };
enum { MAX_STEPS = 65536 };

static const char magic[8] = {'C', 'L', 'O', 'C', 'H', 'E', '\r', '\n'};

#define SIGNATURE(upper, name, signature, slots) signature,
static const char *const signatures[] = {FOR_EACH_OPERATION(SIGNATURE)};

#define SLOT_MASK(upper, name, signature, slots) slots,
static const uint16_t slot_masks[] = {FOR_EACH_OPERATION(SLOT_MASK)};

struct decoder {
    const uint8_t *wire;
    size_t size;
    struct arena *arena;
    uint64_t table; // offset of the values
    uint32_t value_count;
    uint64_t data; // offset of the data
};

// The wire form is little-endian; so are x86_64 and aarch64, which is all we build for.
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "no byte order is converted here");

static uint16_t u16_at(const uint8_t *at)
{
    uint16_t number;
    memcpy(&number, at, sizeof number);
    return number;
}

static uint32_t u32_at(const uint8_t *at)
{
    uint32_t number;
    memcpy(&number, at, sizeof number);
    return number;
}

static uint64_t u64_at(const uint8_t *at)
{
    uint64_t number;
    memcpy(&number, at, sizeof number);
    return number;
}

static bool is_filled(const uint8_t *bytes, size_t size, uint8_t with)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != with)
            return false;
    }
    return true;
}

size_t arena_size(const uint8_t *wire, size_t size)
{
    const size_t slack = 4096; // the report's argv, and alignment
    if (size < HEADER_SIZE)
        return slack;
    size_t steps = u32_at(wire + 16);
    if (steps > MAX_STEPS)
        return slack;
    // A vector's items take at least one byte each of the wire form, and a pointer here. What
    // a step needs besides: alignment, the NULL at the end of its vectors, its place in the
    // undo list.
    size_t per_step = sizeof(struct step) + MAX_PARAMETERS * sizeof(struct value) + 128;
    return slack + steps * per_step + size * sizeof(char *);
}

void *arena_take(struct arena *arena, size_t count, size_t item_size)
{
    size_t start = (arena->used + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    size_t bytes;
    if (__builtin_mul_overflow(count, item_size, &bytes))
        return NULL;
    if (start > arena->size || bytes > arena->size - start)
        return NULL;
    arena->used = start + bytes;
    memset(arena->start + start, 0, bytes);
    return arena->start + start;
}

// Returns `size` bytes of the data at an offset from the start of the wire form, or NULL.
static const uint8_t *data_at(const struct decoder *decoder, uint64_t offset, uint64_t size)
{
    if (offset < decoder->data || offset > decoder->size || size > decoder->size - offset)
        return NULL;
    return decoder->wire + offset;
}

static int decode_string(const struct decoder *decoder, uint64_t offset, struct value *value)
{
    const uint8_t *text = data_at(decoder, offset, (uint64_t)value->length + 1);
    if (!text || memchr(text, 0, (size_t)value->length + 1) != text + value->length)
        return -1;
    value->string = (const char *)text;
    return 0;
}

static int decode_vector(const struct decoder *decoder, uint64_t offset, struct value *value)
{
    const uint8_t *count = data_at(decoder, offset, sizeof(uint32_t));
    if (!count)
        return -1;
    size_t left = u32_at(count);
    const uint8_t *next = data_at(decoder, offset + sizeof(uint32_t), left);
    if (!next || value->length > left) // each item has at least its NUL
        return -1;
    // execve(2) takes `char *const *` but doesn't write; the wire form is mapped read-only.
    const char **items = arena_take(decoder->arena, (size_t)value->length + 1, sizeof *items);
    if (!items)
        return -1;
    for (uint32_t i = 0; i < value->length; i++) {
        const uint8_t *end = left ? memchr(next, 0, left) : NULL;
        if (!end)
            return -1;
        items[i] = (const char *)next;
        left -= (size_t)(end + 1 - next);
        next = end + 1;
    }
    value->vector = (char *const *)items;
    return left == 0 ? 0 : -1;
}

static int decode_value(const struct decoder *decoder, uint64_t index, char type,
                        struct value *value)
{
    if (index >= decoder->value_count)
        return -1;
    const uint8_t *entry = decoder->wire + decoder->table + index * VALUE_SIZE;
    if (u32_at(entry) != (unsigned char)type)
        return -1;
    value->type = type;
    value->length = u32_at(entry + 4);
    uint64_t payload = u64_at(entry + 8);
    switch (type) {
    case 'i':
        value->number = (int64_t)payload;
        return 0;
    case 's':
        return decode_string(decoder, payload, value);
    case 'b':
        value->blob = data_at(decoder, payload, value->length);
        return value->blob ? 0 : -1;
    case 'v':
        return decode_vector(decoder, payload, value);
    }
    return -1;
}

static int decode_step(const struct decoder *decoder, uint32_t index, struct step *step)
{
    const uint8_t *entry = decoder->wire + HEADER_SIZE + (size_t)index * STEP_SIZE;
    uint16_t operation = u16_at(entry);
    uint16_t stage = u16_at(entry + 2);
    uint64_t first = u32_at(entry + 4);
    if (operation >= OPERATION_COUNT || (stage != HOST && stage != CHILD))
        return -1;
    const char *signature = signatures[operation];
    size_t count = strlen(signature);
    if (u32_at(entry + 8) != count)
        return -1;
    struct value *arguments = arena_take(decoder->arena, count, sizeof *arguments);
    if (!arguments)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (decode_value(decoder, first + i, signature[i], &arguments[i]) < 0)
            return -1;
        // Slots index an array: none out of range gets as far as a step.
        bool slot = slot_masks[operation] >> i & 1;
        if (slot && (arguments[i].number < NO_SLOT || arguments[i].number >= SLOTS))
            return -1;
    }
    struct value why;
    if (decode_value(decoder, u32_at(entry + 12), 's', &why) < 0)
        return -1;
    *step = (struct step){
        .operation = (enum operation)operation,
        .stage = (enum stage)stage,
        .index = index,
        .arguments = arguments,
        .why = why.string,
    };
    return 0;
}

int decode_plan(const uint8_t *wire, size_t size, struct arena *arena, struct plan *plan)
{
    if (size < HEADER_SIZE || memcmp(wire, magic, sizeof magic) != 0)
        return -1;
    uint32_t step_count = u32_at(wire + 16);
    struct decoder decoder = {
        .wire = wire,
        .size = size,
        .arena = arena,
        .table = HEADER_SIZE + (uint64_t)step_count * STEP_SIZE,
        .value_count = u32_at(wire + 20),
    };
    decoder.data = decoder.table + (uint64_t)decoder.value_count * VALUE_SIZE;
    if (u32_at(wire + 8) != CATALOGUE_CHECKSUM || u32_at(wire + 12) != size ||
        decoder.data > size || step_count > MAX_STEPS ||
        !is_filled(wire + HEADER_USED, HEADER_SIZE - HEADER_USED, 0))
        return -1;

    struct step *steps = arena_take(arena, step_count, sizeof *steps);
    if (!steps)
        return -1;
    for (uint32_t i = 0; i < step_count; i++) {
        if (decode_step(&decoder, i, &steps[i]) < 0)
            return -1;
    }
    struct value report = {.vector = NULL};
    uint32_t report_index = u32_at(wire + 36);
    if (report_index != NO_STEP && decode_value(&decoder, report_index, 'v', &report) < 0)
        return -1;
    *plan = (struct plan){
        .step_count = step_count,
        .steps = steps,
        .flags = u32_at(wire + 24),
        .fail_step = u32_at(wire + 28),
        .fail_errno = (int)u32_at(wire + 32),
        .report = report.vector,
        .report_length = report.length,
    };
    return 0;
}
