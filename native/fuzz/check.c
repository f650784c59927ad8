// decode-check: reads plans, each after its size (u32), and writes a byte for each: '+' if the
// decoder takes it, '-' if it refuses it. The tests compare that with the planner's own decoder.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int decode_and_use(const uint8_t *data, size_t size);

int main(void)
{
    uint32_t size;
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        uint8_t *data = malloc(size ? size : 1);
        if (!data || fread(data, 1, size, stdin) != size)
            return 1;
        putchar(decode_and_use(data, size) == 0 ? '+' : '-');
        fflush(stdout);
        free(data);
    }
    return 0;
}
