/**
 * The door of `holdfast/wasm`: the small heap in a WebAssembly memory, for browsers and every other
 * runtime. Nothing that it imports needs Bun or a native library.
 */
import { WasmHeap, type WasmHeapOptions } from "./wasm_heap.ts";

/** As the SmallHeap of `holdfast`, of which only the WebAssembly kind exists here. */
export const SmallHeap = {
  /** A heap in a memory of its own, or in one that is given. */
  wasm(options?: WasmHeapOptions): WasmHeap {
    return new WasmHeap(options);
  },
};

export { HoldfastError } from "./errors.ts";
export type { ViewConstructor } from "./view.ts";
export {
  type SmallHeapFigures,
  type WasmAllocOptions,
  WasmHandle,
  WasmHeap,
  type WasmHeapOptions,
  type WasmHeapStats,
} from "./wasm_heap.ts";
