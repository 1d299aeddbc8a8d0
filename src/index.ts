/** The door of the package: every public name, and nothing else. */
export { alloc, allocUnsafe, type HoldfastStats, libraryPath, stats, trim } from "./alloc.ts";
export { HoldfastError } from "./errors.ts";
export {
  GlobalAllocator,
  type GlobalAllocatorSection,
  type GlobalAllocatorOptions,
  type GlobalAllocatorStats,
  type GlobalAllocatorToken,
} from "./global_allocator.ts";
export { Handle, type HandleToken, type PageKind } from "./handle.ts";
export {
  type BackgroundOptions,
  LargePool,
  type LargePoolClassStats,
  type LargePoolOptions,
  type LargePoolStats,
  type LargePoolToken,
} from "./large_pool.ts";
export { type LeakReport, type LeakReportOptions, leakReports } from "./leaks.ts";
export type { AllocOptions } from "./options.ts";
export {
  ReclaimingAllocator,
  type ReclaimingAllocatorOptions,
  type ReclaimingAllocatorStats,
  type ReclaimingAllocatorToken,
  type ReclaimingClassStats,
} from "./reclaiming_allocator.ts";
export {
  SmallHeap,
  type SmallHeapOptions,
  type SmallHeapStats,
  type SmallHeapToken,
} from "./small_heap.ts";
export type { ViewConstructor } from "./view.ts";
export type { BytesKind, FieldKind, Layout } from "./layout.ts";
export type { BytesField, Field, Fields, Slot } from "./slab_memory.ts";
export {
  type OwnerToken,
  type PlainLayout,
  type SlabBackend,
  SlabOwner,
  type SlabOwnerOptions,
  type SlabStats,
} from "./slab_owner.ts";
export { SlabRemote, type SlabRemoteToken } from "./slab_remote.ts";
export type { WaitOptions } from "./slab_waiters.ts";
export {
  type SmallHeapFigures,
  type WasmAllocOptions,
  WasmHandle,
  WasmHeap,
  type WasmHeapOptions,
  type WasmHeapStats,
} from "./wasm_heap.ts";
