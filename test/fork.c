/* A process that uses every allocator from several threads and forks in the middle of it; compiled
 * against the header and the library by fork.test.ts. In the child every call must be refused, come
 * back at once (whatever lock a thread held that does not exist there) and leave the memory as the
 * pool's option promises; the parent must not notice. Ends with 1 and a reason at the first thing that
 * is wrong, a child that hangs included. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "holdfast.h"

enum { forks = 40, churners = 2, region_bytes = 2 << 20, objects = 64, child_seconds = 20 };

static atomic_int stop;

static void fail(const char *what) {
  fprintf(stderr, "fork.c: %s\n", what);
  _exit(1);
}

/* What held last, for a child that hangs in what comes next. */
static const char *volatile last = "";

static void hung(int signal) {
  static const char said[] = "fork.c: a child hangs after: ";
  if (write(2, said, sizeof said - 1) < 0 || write(2, last, strlen(last)) < 0 || write(2, "\n", 1) < 0) _exit(2);
  _exit(signal);
}

static void check(int holds, const char *what) {
  if (!holds) fail(what);
  last = what;
}

/* What all kinds of allocator are asked for, by one thread. */
struct everything {
  uint32_t thread, large, omitted, wiped, global, reclaiming, small, slab;
  double lease, slot;
  unsigned char *copied, *gone, *zeroed;
  void *region, *object, *slotted, *tiny, *direct, *large_direct;
};

static uint32_t pool(uint32_t thread, uint32_t fork_policy) {
  hf_pool_options_t options = {0};
  options.given = HF_POOL_FIELD_FORK;
  options.fork = fork_policy;
  double made = hf_pool_create(thread, &options);
  check(made > 0, "a pool is made");
  return (uint32_t)made;
}

static unsigned char *lease(uint32_t thread, uint32_t of) {
  unsigned char *bytes = hf_region_alloc(thread, of, region_bytes, NULL);
  check(bytes != NULL, "a region is leased");
  memset(bytes, 0x5a, region_bytes);
  return bytes;
}

static struct everything set_up(void) {
  struct everything all = {0};
  hf_global_options_t global = {0};
  hf_reclaiming_options_t reclaiming = {0};
  hf_small_options_t small = {0};
  hf_slab_options_t slab = {0};
  slab.slot_bytes = 64;
  slab.alignment = 8;
  slab.capacity = 1024;
  slab.queue_capacity = -1;
  small.limit_bytes = 1 << 20;
  all.thread = (uint32_t)hf_thread_attach();
  all.large = pool(all.thread, HF_FORK_COPY);
  all.omitted = pool(all.thread, HF_FORK_OMIT);
  all.wiped = pool(all.thread, HF_FORK_WIPE);
  all.global = (uint32_t)hf_global_create(all.thread, &global);
  all.reclaiming = (uint32_t)hf_reclaiming_create(all.thread, &reclaiming);
  all.small = (uint32_t)hf_small_create(all.thread, &small);
  all.slab = (uint32_t)hf_slab_create(all.thread, &slab);
  all.lease = hf_alloc(all.thread, all.large, region_bytes, 0);
  check(all.lease > 0, "a lease is granted");
  all.copied = lease(all.thread, all.large);
  all.gone = lease(all.thread, all.omitted);
  all.zeroed = lease(all.thread, all.wiped);
  all.object = hf_global_alloc(all.thread, all.global, 100, 0);
  all.slotted = hf_reclaiming_alloc(all.thread, all.reclaiming, 100, 0);
  all.tiny = hf_small_alloc(all.thread, all.small, 100, 0);
  all.slot = hf_slab_alloc(all.thread, all.slab);
  all.direct = hf_global_direct(all.thread, all.global);
  all.large_direct = hf_large_direct(all.thread, all.large);
  all.region = hf_large_take(all.large_direct, region_bytes);
  check(all.region && all.object && all.slotted && all.tiny && all.slot >= 0 && all.direct && all.large_direct, "every allocator gives");
  return all;
}

/* Keeps the locks of all allocators busy, lest a fork find none of them held. */
static void *churn(void *context) {
  const struct everything *all = context;
  uint32_t thread = (uint32_t)hf_thread_attach();
  while (!atomic_load(&stop)) {
    void *kept[objects];
    for (int at = 0; at < objects; at++) kept[at] = hf_global_alloc(thread, all->global, 1024u << (at & 7), 0);
    void *slot = hf_reclaiming_alloc(thread, all->reclaiming, 64, 0);
    void *tiny = hf_small_alloc(thread, all->small, 64, 0);
    void *region = hf_region_alloc(thread, all->large, region_bytes, NULL);
    double handle = hf_alloc(thread, all->large, 10000, 0);
    hf_pool_stats_t stats;
    hf_pool_stats(all->large, &stats);
    hf_pool_trim(thread, all->large);
    hf_reclaiming_free(thread, all->reclaiming, slot);
    hf_reclaiming_reclaim(thread, all->reclaiming);
    hf_small_free(thread, all->small, tiny);
    hf_region_free(thread, all->large, region);
    hf_free(thread, handle);
    for (int at = 0; at < objects; at++) check(hf_global_free(thread, all->global, kept[at]) == HF_STATUS_OK, "an object is freed");
  }
  hf_thread_detach(thread);
  return NULL;
}

static int mapped(const void *address) {
  int ends[2];
  if (pipe(ends) != 0) fail("pipe");
  ssize_t written = write(ends[1], address, 1);
  close(ends[0]);
  close(ends[1]);
  return written == 1;
}

/* All the child may do is read; each call answers at once and says no. */
static void in_child(const struct everything *all) {
  signal(SIGALRM, hung);
  alarm(child_seconds);
  hf_pool_stats_t pool_stats;
  hf_global_stats_t global_stats;
  hf_reclaiming_stats_t reclaiming_stats;
  hf_small_stats_t small_stats;
  hf_slab_stats_t slab_stats;
  hf_stats_t stats;
  hf_global_options_t global = {0};
  hf_pool_options_t options = {0};
  hf_slab_options_t slab = {0};
  slab.slot_bytes = 64;
  check(hf_thread_attach() < 0, "child: attach is refused");
  check(hf_alloc(all->thread, all->large, region_bytes, 0) < 0, "child: alloc is refused");
  check(hf_free(all->thread, all->lease) == HF_STATUS_FORKED, "child: free is refused");
  check(hf_pool_create(all->thread, &options) < 0, "child: a pool is refused");
  check(hf_global_create(all->thread, &global) < 0, "child: an allocator is refused");
  check(hf_slab_create(all->thread, &slab) < 0, "child: a slab is refused");
  check(!hf_region_alloc(all->thread, all->large, region_bytes, NULL), "child: a region is refused");
  check(hf_region_free(all->thread, all->large, all->region) == HF_STATUS_FORKED, "child: a region stays");
  check(!hf_large_take(all->large_direct, region_bytes), "child: take of a region is refused");
  check(hf_large_give(all->large_direct, all->region) == HF_STATUS_FORKED, "child: give of a region is refused");
  check(!hf_global_alloc(all->thread, all->global, 100, 0), "child: an object is refused");
  check(hf_global_free(all->thread, all->global, all->object) == HF_STATUS_FORKED, "child: an object stays");
  check(!hf_global_realloc(all->thread, all->global, all->object, 5000, 0), "child: realloc is refused");
  check(!hf_global_take(all->direct, 100), "child: take is refused");
  check(hf_global_give(all->direct, all->object) == HF_STATUS_FORKED, "child: give is refused");
  check(!hf_reclaiming_alloc(all->thread, all->reclaiming, 100, 0), "child: a slot is refused");
  check(hf_reclaiming_free(all->thread, all->reclaiming, all->slotted) == HF_STATUS_FORKED, "child: a slot stays");
  check(hf_reclaiming_reclaim(all->thread, all->reclaiming) < 0, "child: reclaim is refused");
  check(!hf_small_alloc(all->thread, all->small, 100, 0), "child: a tiny block is refused");
  check(hf_small_free(all->thread, all->small, all->tiny) == HF_STATUS_FORKED, "child: a tiny block stays");
  check(hf_slab_alloc(all->thread, all->slab) < 0, "child: an owner's slot is refused");
  check(hf_slab_free(all->thread, all->slab, all->slot) == HF_STATUS_FORKED, "child: an owner's slot stays");
  check(hf_pool_trim(all->thread, all->large) < 0, "child: trim is refused");
  check(hf_pool_close(all->thread, all->large, 1) < 0, "child: close is refused");
  check(hf_thread_detach(all->thread) == HF_STATUS_FORKED, "child: detach is refused");
  check(hf_pool_stats(all->large, &pool_stats) == HF_STATUS_FORKED, "child: figures are refused");
  check(hf_global_stats(all->global, &global_stats) == HF_STATUS_FORKED, "child: an allocator's figures are refused");
  check(hf_reclaiming_stats(all->reclaiming, &reclaiming_stats) == HF_STATUS_FORKED, "child: a reclaimer's figures are refused");
  check(hf_small_stats(all->small, &small_stats) == HF_STATUS_FORKED, "child: a small heap's figures are refused");
  check(hf_slab_stats(all->slab, &slab_stats) == HF_STATUS_FORKED, "child: a slab's figures are refused");
  check(hf_stats(&stats, 0) == HF_STATUS_FORKED, "child: all figures are refused");
  check(hf_trim(all->thread) < 0, "child: trim of all is refused");
  for (size_t at = 0; at < region_bytes; at += 4096) {
    check(all->copied[at] == 0x5a, "child: copied memory is as it was");
    check(all->zeroed[at] == 0, "child: wiped memory is zeros");
  }
  check(!mapped(all->gone), "child: omitted memory is not mapped");
  all->copied[0] = 0x77;
  _exit(0);
}

int main(void) {
  struct everything all = set_up();
  pthread_t threads[churners];
  for (int at = 0; at < churners; at++) check(pthread_create(&threads[at], NULL, churn, &all) == 0, "a thread starts");
  for (int round = 0; round < forks; round++) {
    pid_t child = fork();
    if (child == 0) in_child(&all);
    int status = 0;
    check(child > 0 && waitpid(child, &status, 0) == child, "fork");
    if (WIFSIGNALED(status)) {
      fprintf(stderr, "fork.c: child %d ended by signal %d\n", round, WTERMSIG(status));
      return WTERMSIG(status);
    }
    if (WEXITSTATUS(status) != 0) return WEXITSTATUS(status);
    check(all.copied[0] == 0x5a, "the parent's memory is its own");
  }
  atomic_store(&stop, 1);
  for (int at = 0; at < churners; at++) pthread_join(threads[at], NULL);
  check(hf_free(all.thread, all.lease) == HF_STATUS_OK, "the parent frees its lease");
  check(hf_region_free(all.thread, all.large, all.region) == HF_STATUS_OK, "the parent frees its region");
  check(hf_global_give(all.direct, all.object) == HF_STATUS_OK, "the parent gives its object");
  check(hf_reclaiming_free(all.thread, all.reclaiming, all.slotted) == HF_STATUS_OK, "the parent frees its slot");
  check(hf_small_free(all.thread, all.small, all.tiny) == HF_STATUS_OK, "the parent frees its block");
  check(hf_slab_free(all.thread, all.slab, all.slot) == HF_STATUS_OK, "the parent frees its owner's slot");
  printf("%d forks\n", forks);
  return 0;
}
