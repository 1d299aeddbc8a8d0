/* A C program against include/holdfast.h, compiled with -Wall -Wextra -Werror -pedantic by
 * abi.test.ts. It loads the library named by its first argument, takes each function by the type
 * that the header gives it, leases memory, and prints what C sees as `name value` lines, which the
 * test compares with src/abi.gen.ts. Ends with 1 and a reason at the first thing that is wrong. */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "holdfast.h"

static void *library;

static void fail(const char *what) {
  fprintf(stderr, "abi.c: %s\n", what);
  exit(1);
}

static void check(int holds, const char *what) {
  if (!holds) fail(what);
}

static void *symbol(const char *name) {
  void *address = dlsym(library, name);
  if (!address) fail(name);
  return address;
}

/* ISO C has no cast from an object pointer to a function pointer; POSIX wants the copy. */
#define TAKE(type, name)                        \
  type name##_function;                         \
  do {                                          \
    void *address = symbol(#name);              \
    memcpy(&name##_function, &address, sizeof address); \
  } while (0)

#define SHOW_SIZE(type) printf("sizeof." #type " %zu\n", sizeof(type))
#define SHOW_OFFSET(type, field) \
  printf("offsetof." #type "." #field " %zu\n", offsetof(type, field))
#define SHOW_CODE(name) printf(#name " %" PRId32 "\n", (int32_t)name)

typedef double number_function(void);
typedef double lease_function(uint32_t, uint32_t, double, uint32_t);
typedef hf_status_t handle_function(uint32_t, double);
typedef void *block_function(uint32_t);
typedef uint32_t pool_function(void);
typedef hf_status_t pool_stats_function(uint32_t, hf_pool_stats_t *);
typedef hf_status_t self_test_function(void);
typedef void *region_alloc_function(uint32_t, uint32_t, size_t, size_t *);
typedef hf_status_t region_free_function(uint32_t, uint32_t, void *);
typedef void *direct_function(uint32_t, uint32_t);
typedef void *take_function(void *, size_t);
typedef void *take_aligned_function(void *, size_t, size_t);
typedef hf_status_t give_function(void *, void *);

/* The types above are those of the header, or this does not compile. */
static number_function *const same_1 = 0 ? hf_fingerprint : 0;
static lease_function *const same_2 = 0 ? hf_alloc : 0;
static handle_function *const same_3 = 0 ? hf_free : 0;
static block_function *const same_4 = 0 ? hf_thread_block : 0;
static pool_stats_function *const same_5 = 0 ? hf_pool_stats : 0;
static self_test_function *const same_6 = 0 ? hf_self_test : 0;
static region_alloc_function *const same_7 = 0 ? hf_region_alloc : 0;
static region_free_function *const same_8 = 0 ? hf_region_free : 0;
static direct_function *const same_9 = 0 ? hf_global_direct : 0;
static take_function *const same_10 = 0 ? hf_global_take : 0;
static take_aligned_function *const same_11 = 0 ? hf_global_take_aligned : 0;
static give_function *const same_12 = 0 ? hf_global_give : 0;
static direct_function *const same_13 = 0 ? hf_large_direct : 0;
static take_function *const same_14 = 0 ? hf_large_take : 0;
static give_function *const same_15 = 0 ? hf_large_give : 0;

static void show_layouts(void) {
  SHOW_SIZE(hf_pool_options_t);
  SHOW_SIZE(hf_class_stats_t);
  SHOW_SIZE(hf_pool_stats_t);
  SHOW_SIZE(hf_stats_t);
  SHOW_SIZE(hf_engine_info_t);
  SHOW_OFFSET(hf_pool_options_t, limit_bytes);
  SHOW_OFFSET(hf_pool_options_t, given);
  SHOW_OFFSET(hf_pool_options_t, fork);
  SHOW_OFFSET(hf_class_stats_t, class_bytes);
  SHOW_OFFSET(hf_class_stats_t, clear_slow_total);
  SHOW_OFFSET(hf_pool_stats_t, live_handles);
  SHOW_OFFSET(hf_stats_t, live_handles);
  SHOW_OFFSET(hf_engine_info_t, path_address);
  SHOW_CODE(HF_STATUS_OK);
  SHOW_CODE(HF_STATUS_CLOSING);
  SHOW_CODE(HF_STATUS_FREED);
  SHOW_CODE(HF_STATUS_DOUBLE_FREE);
  SHOW_CODE(HF_STATUS_FOREIGN);
  SHOW_CODE(HF_STATUS_LIMIT);
  SHOW_CODE(HF_STATUS_LOCK_LIMIT);
  SHOW_CODE(HF_STATUS_INVALID_ARGUMENT);
  SHOW_CODE(HF_ABI_VERSION);
  SHOW_CODE(HF_BLOCK_WORDS);
  SHOW_CODE(HF_OPTION_ALIGN_SHIFT);
}

static void use_memory(void) {
  TAKE(number_function *, hf_thread_attach);
  TAKE(block_function *, hf_thread_block);
  TAKE(pool_function *, hf_pool_shared);
  TAKE(lease_function *, hf_alloc);
  TAKE(handle_function *, hf_free);
  TAKE(pool_stats_function *, hf_pool_stats);
  TAKE(region_alloc_function *, hf_region_alloc);
  TAKE(region_free_function *, hf_region_free);
  const double bytes = 4.0 * 1024 * 1024;
  double attached = hf_thread_attach_function();
  check(attached >= 0, "hf_thread_attach");
  uint32_t thread = (uint32_t)attached;
  uint32_t pool = hf_pool_shared_function();
  double *block = hf_thread_block_function(thread);
  check(block != NULL, "hf_thread_block");

  double handle = hf_alloc_function(thread, pool, bytes, HF_OPTION_ZERO);
  check(handle > 0, "hf_alloc");
  check(block[HF_BLOCK_BYTE_LENGTH] == bytes, "block: byte length");
  check(block[HF_BLOCK_CAPACITY] >= bytes, "block: capacity");
  unsigned char *memory = (unsigned char *)(uintptr_t)block[HF_BLOCK_ADDRESS];
  for (size_t i = 0; i < (size_t)bytes; i += 4096) check(memory[i] == 0, "memory is zero");
  memset(memory, 0xa5, (size_t)bytes);
  hf_pool_stats_t stats;
  check(hf_pool_stats_function(pool, &stats) == HF_STATUS_OK, "hf_pool_stats");
  check(stats.live_handles >= 1 && stats.allocated_bytes >= bytes, "figures of a live lease");
  check(hf_free_function(thread, handle) == HF_STATUS_OK, "hf_free");
  check(hf_free_function(thread, handle) == HF_STATUS_DOUBLE_FREE, "hf_free a second time");
  check(hf_free_function(thread, -1.5) == HF_STATUS_FOREIGN, "hf_free of a number never issued");

  size_t capacity = 0;
  void *region = hf_region_alloc_function(thread, pool, 3u << 20, &capacity);
  check(region != NULL && capacity >= 3u << 20, "hf_region_alloc");
  memset(region, 1, capacity);
  check(hf_region_free_function(thread, pool, region) == HF_STATUS_OK, "hf_region_free");

  TAKE(direct_function *, hf_large_direct);
  TAKE(take_function *, hf_large_take);
  TAKE(give_function *, hf_large_give);
  void *direct = hf_large_direct_function(thread, pool);
  check(direct != NULL, "hf_large_direct");
  check(hf_large_direct_function(thread, 0) == NULL, "hf_large_direct of no pool");
  for (int i = 0; i < 3; i++) {
    unsigned char *own = hf_large_take_function(direct, 3u << 20);
    check(own != NULL && (uintptr_t)own % (2u << 20) == 0, "hf_large_take");
    memset(own, i, 3u << 20);
    check(hf_large_give_function(direct, own + 4096) == HF_STATUS_FOREIGN, "an interior free");
    check(hf_large_give_function(direct, own) == HF_STATUS_OK, "hf_large_give");
    check(hf_large_give_function(direct, own) == HF_STATUS_DOUBLE_FREE, "given twice");
  }
  check(hf_large_take_function(direct, 0) == NULL, "no bytes");
  check(hf_large_give_function(direct, NULL) == HF_STATUS_OK, "null");
}

static void use_objects(void) {
  TAKE(number_function *, hf_thread_attach);
  TAKE(pool_function *, hf_global_shared);
  TAKE(direct_function *, hf_global_direct);
  TAKE(take_function *, hf_global_take);
  TAKE(take_aligned_function *, hf_global_take_aligned);
  TAKE(give_function *, hf_global_give);
  uint32_t thread = (uint32_t)hf_thread_attach_function();
  void *direct = hf_global_direct_function(thread, hf_global_shared_function());
  check(direct != NULL, "hf_global_direct");
  check(hf_global_direct_function(thread, 0) == NULL, "hf_global_direct of no allocator");

  unsigned char *objects[1000];
  for (size_t i = 0; i < 1000; i++) {
    objects[i] = hf_global_take_function(direct, 16 + i);
    check(objects[i] != NULL && (uintptr_t)objects[i] % 16 == 0, "hf_global_take");
    memset(objects[i], (int)(i & 255), 16 + i);
  }
  for (size_t i = 0; i < 1000; i++) {
    check(objects[i][0] == (i & 255) && objects[i][15 + i] == (i & 255), "objects lie apart");
    check(hf_global_give_function(direct, objects[i] + 1) == HF_STATUS_FOREIGN, "an interior free");
    check(hf_global_give_function(direct, objects[i]) == HF_STATUS_OK, "hf_global_give");
    check(hf_global_give_function(direct, objects[i]) == HF_STATUS_DOUBLE_FREE, "given twice");
  }
  void *page = hf_global_take_aligned_function(direct, 100, 4096);
  check(page != NULL && (uintptr_t)page % 4096 == 0, "hf_global_take_aligned");
  check(hf_global_give_function(direct, page) == HF_STATUS_OK, "an aligned object");
  check(hf_global_give_function(direct, &page) == HF_STATUS_FOREIGN, "a foreign free");
  check(hf_global_give_function(direct, NULL) == HF_STATUS_OK, "null");
  check(hf_global_take_function(direct, 0) == NULL, "no bytes");
}

int main(int count, char **arguments) {
  if (count != 2) fail("usage: abi <library>");
  library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) fail(dlerror());
  check(!same_1 && !same_2 && !same_3 && !same_4, "types");
  check(!same_5 && !same_6 && !same_7 && !same_8, "types");
  check(!same_9 && !same_10 && !same_11 && !same_12, "types");
  check(!same_13 && !same_14 && !same_15, "types");
  TAKE(number_function *, hf_fingerprint);
  printf("fingerprint %.0f\n", hf_fingerprint_function());
  show_layouts();
  use_memory();
  use_objects();
  TAKE(self_test_function *, hf_self_test);
  printf("self_test %" PRId32 "\n", hf_self_test_function());
  return 0;
}
