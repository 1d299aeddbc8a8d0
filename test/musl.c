/* Loads the library named by its first argument in a musl process and runs its self-test; the
 * proof `libc-free` compiles it with musl-gcc. Ends with 0 only if the self-test answered ok. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int main(int count, char **arguments) {
  if (count != 2) return 2;
  void *library = dlopen(arguments[1], RTLD_NOW);
  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  void *address = dlsym(library, "hf_self_test");
  if (!address) return 1;
  int32_t (*self_test)(void);
  memcpy(&self_test, &address, sizeof address);
  int32_t status = self_test();
  printf("self-test: status %d\n", (int)status);
  return status == 0 ? 0 : 1;
}
