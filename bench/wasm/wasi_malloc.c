/* An opponent: the malloc of wasi-libc behind the exports of holdfast.wasm. */
#include <stdlib.h>

void *heap_alloc(size_t bytes, size_t alignment) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) return NULL;
  return alignment > 16 ? aligned_alloc(alignment, bytes) : malloc(bytes);
}

void heap_free(void *address, size_t bytes) {
  (void)bytes;
  free(address);
}

void *heap_realloc(void *address, size_t old_bytes, size_t new_bytes, size_t alignment) {
  (void)old_bytes;
  (void)alignment;
  return realloc(address, new_bytes);
}
