// Strings built in memory of the caller's, without stdio: it would double the launcher's size.
#pragma once

#include <stddef.h>
#include <stdint.h>

struct text {
    char *start;
    size_t size; // of the memory, including the NUL that always ends the text
    size_t length;
};

// A text in an array; what doesn't fit is cut off.
#define TEXT(array) text_begin(array, sizeof(array))

static inline struct text text_begin(char *memory, size_t size)
{
    memory[0] = '\0';
    return (struct text){.start = memory, .size = size};
}

static inline void text_add(struct text *text, const char *more)
{
    while (*more && text->length + 1 < text->size)
        text->start[text->length++] = *more++;
    text->start[text->length] = '\0';
}

static inline void text_add_number(struct text *text, uint64_t number)
{
    char digits[21];
    char *first = digits + sizeof digits - 1;
    *first = '\0';
    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    text_add(text, first);
}

static inline void text_cut(struct text *text, size_t length)
{
    if (length < text->length)
        text->length = length;
    text->start[text->length] = '\0';
}
